"""gunicorn, its workers and its broker, and threads that ask it over HTTP and check every answer."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil

from broker.control_plane.query import ask
from tests.brokers import SHM, wait_until
from tests.servers.gunicorns import gunicorn, workers_of
from tests.servers.running import Server, lives
from tests.stress.board import Board
from tests.stress.chaos import Deed, suspend
from tests.stress.verdicts import Fault, verdict
from worker_client import BrokerError, BrokerUnavailable
from worker_client.wire.address import name_prefix

PATIENCE_S = 150.0
CALLERS = 6
LOST = (ConnectionError, http.client.HTTPException)
"""What a connection brings whose worker is killed."""

APP = """
import json, urllib.parse
import numpy as np
import worker_client

client = worker_client.connect(timeout=100)
tell, heavy = client.model("tell"), client.model("picky_heavy")


def answer(row, rows):
    x = np.full((rows, 4), row, np.float32)
    if row % 5 == 0:
        return heavy.predict(x).tolist()
    return tell.predict({"x": x, "row": np.full(rows, row)})["y"].tolist()


def app(environ, start_response):
    query = urllib.parse.parse_qs(environ["QUERY_STRING"])
    try:
        status, told = "200 OK", answer(int(query["row"][0]), int(query["rows"][0]))
    except worker_client.BrokerError as error:
        unavailable = isinstance(error, worker_client.BrokerUnavailable)
        status, told = "503 Service Unavailable", [unavailable, str(error)]
    body = json.dumps(told).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""

CONF = """
from broker.integrations import gunicorn
models = {name: f"tests.process.models:{name}" for name in ("tell", "picky_heavy")}
gunicorn.serve(globals(), models=models, slots=2, max_slots=8)
"""

WAYS = (["--preload"], [], ["--preload", "--worker-class", "gthread", "--threads", "3"])


class Site:
    """A running gunicorn under load."""

    def __init__(self, server: Server, seed: str) -> None:
        self.ends: Counter[str] = Counter()
        self.calls = 0
        self._server = server
        self._board = Board()
        self._lock = threading.Lock()
        self._enough = threading.Event()
        self._faults: list[BaseException] = []
        self._netloc = urlsplit(server.url).netloc
        self._threads = [
            threading.Thread(target=self._ask_on, args=(Random(f"{seed}.{number}"),))
            for number in range(CALLERS)
        ]
        for thread in self._threads:
            thread.start()

    # -- who asks --------------------------------------------------------------------------------------------------

    def _ask_on(self, random: Random) -> None:
        while not self._enough.is_set() and not self._faults:
            try:
                end = self._ask(random.randrange(100, 10_000), random.choice((1, 1, 2, 7)))
            except BaseException as error:
                self._faults.append(error)
                return
            with self._lock:
                self.calls += 1
                self.ends[end] += 1

    def _ask(self, row: int, rows: int) -> str:
        """One request; how it ended. Raises Fault, or what else must not be."""
        board = self._board
        brokers_over, workers_over = board.broker_ends.over, board.worker_ends.over
        try:
            status, told = self._get(f"/?row={row}&rows={rows}")
        except LOST as error:
            if not board.worker_ends.since(workers_over):
                raise Fault(
                    f"a request was lost ({error!r}), though no worker was killed meanwhile"
                ) from error
            return "lost with its worker"
        if status == http.client.SERVICE_UNAVAILABLE:
            error = BrokerUnavailable(told[1]) if told[0] else BrokerError(told[1])
            return verdict(error, board.broker_ends.since(brokers_over))
        expected = [[2.0 * row + (row if row % 5 else 0)] * 4] * rows
        if status != http.client.OK or not np.array_equal(told, expected):
            raise Fault(f"{status} {told} in place of {expected}")
        return "answered"

    def _get(self, path: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self._netloc, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        if response.status not in (http.client.OK, http.client.SERVICE_UNAVAILABLE):
            raise Fault(f"{path}: {response.status} {body!r}")
        return response.status, json.loads(body)

    # -- deeds -----------------------------------------------------------------------------------------------------

    @property
    def deeds(self) -> list[Deed]:
        """What may be done to the workers and the broker."""
        return [
            Deed(60, "worker killed", 1, self._kill_worker),
            Deed(10, "worker suspended", 0, lambda random: suspend(self._worker(random), random)),
            Deed(5, "broker suspended", 0, lambda random: suspend(self._broker(), random)),
            Deed(5, "workers reloaded", 0, lambda _: self._reload()),
            Deed(4, "broker killed", 1, lambda _: self._end_broker(signal.SIGKILL)),
            Deed(1, "broker stopped", 0, lambda _: self._end_broker(signal.SIGTERM)),
        ]

    def _worker(self, random: Random) -> int:
        self._await_answers(1)
        return random.choice(wait_until(lambda: workers_of(self._server), "a worker"))

    def _broker(self) -> int:
        (pid,) = wait_until(self._server.brokers, "a broker")
        return int(pid)

    def _kill_worker(self, random: Random) -> None:
        with self._board.worker_ends.counted():
            _end(self._worker(random), signal.SIGKILL)

    def _reload(self) -> None:
        """Returns when a worker has come, and one has answered."""
        before = set(workers_of(self._server))
        self._server.signal(signal.SIGHUP)
        wait_until(lambda: set(workers_of(self._server)) - before, "workers after a reload")
        self._await_answers(1)

    def _end_broker(self, number: int) -> None:
        """Returns when the next one serves."""
        with self._board.broker_ends.counted():
            _end(self._broker(), number)
        self._await_answers(2 * CALLERS)

    def _await_answers(self, count: int) -> None:
        wanted = self.calls + count
        wait_until(lambda: self._faults or self.calls >= wanted, f"{count} answers", PATIENCE_S)
        self.check()

    # -- what must hold --------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises Fault for a request that ended as it must not."""
        if self._faults:
            raise Fault(f"{self._faults[0]}\n{self._server.log()[-5000:]}") from self._faults[0]

    def stop(self) -> None:
        """Every request that is under way is answered; the broker knows the living workers only."""
        self._enough.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            if thread.is_alive():
                raise Fault(f"a request has no answer after {PATIENCE_S:g} s\n{self._server.log()[-5000:]}")
        self.check()
        (path,) = self._server.place.sockets()

        def strangers() -> set[int]:
            attached = {worker["pid"] for worker in ask(path, "status")["status"]["workers"]}
            return attached - set(workers_of(self._server))

        wait_until(lambda: not strangers(), "the killed workers' channels to go")
        wait_until(lambda: len(_names(path)) == 1, f"only the doorbell's name, of {_names(path)}")

    def close(self) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)


def _end(pid: int, number: int) -> None:
    """Returns when it is gone."""
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
        process = psutil.Process(pid)
        os.kill(pid, number)
        wait_until(lambda: not lives(process), f"the end of process {pid}", PATIENCE_S)


def _names(path: Path) -> list[str]:
    stem = name_prefix(path).lstrip("/")
    return [name for name in os.listdir(SHM) if stem in name]


@contextlib.contextmanager
def site(workers: int, seed: str) -> Iterator[Site]:
    """gunicorn with so many workers, of a class that the seed decides, under load; gone after the block."""
    way = Random(seed).choice(WAYS)
    with gunicorn("--timeout", "60", *way, conf=CONF, app=APP, workers=workers) as server:
        made = Site(server, seed)
        try:
            yield made
        finally:
            made.close()
