"""Plain workers of a supervised broker: one place for each, filled anew when its worker was killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import psutil

import worker_client
from broker.control_plane import locks
from tests.brokers import TestBroker, serving, wait_until
from tests.servers.running import lives
from tests.stress.board import Board
from tests.stress.body import DUMP_SIGNAL, work
from tests.stress.chaos import LONGEST_STOP_S, Deed, pause, suspend
from tests.stress.forms import MODELS
from tests.stress.verdicts import Fault
from tests.workers import Worker

PATIENCE_S = 150.0
"""A worker that gets no call done for as long hangs: its calls' own timeouts are shorter."""
MOST_ENDS = 3
"""Of brokers in a row, before one is left in peace until it serves: after each that dies before it is ready the pause
gets longer, and a busy machine may take longer to start one than it is left alone for."""


@dataclass(frozen=True)
class Job:
    """What each worker does: `work(place, address, seed, board)`. `probe` is one good call to the broker that is there
    at the end."""

    work: Callable[[int, str, str, Board], Counter[str]]
    probe: Callable[[worker_client.Client], None]


def _double(client: worker_client.Client) -> None:
    assert (client.model("double").predict(np.full((3, 4), 7, np.float32)) == 14).all()


USUAL = Job(work, _double)


class Crew:
    """`count` workers of `broker`, whose calls are drawn from `seed`."""

    def __init__(self, broker: TestBroker, count: int, seed: str, job: Job = USUAL) -> None:
        self.ends: Counter[str] = Counter()  # of the calls of those who lived to tell
        self._broker = broker
        self._others = set(psutil.Process().children())  # who is no worker's child
        self._seed = seed
        self._job = job
        self._descriptors = psutil.Process(broker.pid).num_fds()
        self._board = Board()
        self._replaced = 0
        self._ended = 0  # brokers, since one was waited for
        self._calls_of_the_dead = 0
        self._seen = [(0, time.monotonic())] * count  # calls done, and since when as many
        self._workers: list[Worker] = []
        for place in range(count):
            self._workers.append(self._start(place))

    def _start(self, place: int) -> Worker:
        seed = f"{self._seed}.{place}.{self._replaced}"
        return Worker(self._job.work, place, self._broker.address, seed, self._board)

    @property
    def calls(self) -> int:
        """Done so far, by the dead ones too."""
        return self._calls_of_the_dead + sum(self._board.done[place] for place in range(len(self._workers)))

    @property
    def broker_ends(self) -> int:
        """How many brokers have been ended so far."""
        return self._board.broker_ends.over

    # -- deeds -----------------------------------------------------------------------------------------------------

    @property
    def deeds(self) -> list[Deed]:
        """What may be done to them and to their broker."""
        return [
            Deed(60, "worker killed", 1, lambda random: self._kill(self._place(random))),
            Deed(12, "worker suspended", 0, self._suspend),
            Deed(5, "worker killed while suspended", 1, self._kill_suspended),
            Deed(6, "broker suspended", 0, lambda random: suspend(self._serving_pid(), random)),
            Deed(5, "broker killed", 1, lambda _: self._end_broker(signal.SIGKILL)),
            Deed(1, "broker killed twice", 2, self._end_broker_and_the_next),
            Deed(1, "broker stopped", 0, lambda _: self._end_broker(signal.SIGTERM)),
            Deed(1, "directory cleaned", 0, self._clean_directory),
        ]

    def _place(self, random: Random) -> int:
        return random.randrange(len(self._workers))

    def _kill(self, place: int) -> None:
        """SIGKILL, and another one in its place. What it had found wrong before is not lost with it."""
        worker = self._living(place)
        worker.kill()
        if worker.has_said:
            self._fail_for(worker, killed=True)
        worker.close()
        self._calls_of_the_dead += self._board.done[place]
        self._board.done[place] = 0
        self._seen[place] = 0, time.monotonic()
        self._replaced += 1
        self._workers[place] = self._start(place)

    def _living(self, place: int) -> Worker:
        """Raises what is wrong with one that has ended by itself."""
        worker = self._workers[place]
        if not worker.is_alive:
            self._fail_for(worker)
        return worker

    def _suspend(self, random: Random) -> None:
        suspend(self._living(self._place(random)).pid, random)

    def _kill_suspended(self, random: Random) -> None:
        place = self._place(random)
        os.kill(self._living(place).pid, signal.SIGSTOP)
        pause(random, LONGEST_STOP_S)
        self._kill(place)

    def _serving_pid(self) -> int:
        return int(wait_until(lambda: self._broker.broker.pid, "a broker"))

    def _end_broker(self, number: int) -> int:
        """Returns when its successor has begun to load; that one's pid."""
        if self._ended == MOST_ENDS:
            wait_until(self.broker_answers, "a broker that serves", PATIENCE_S)
            self._ended = 0
        self._ended += 1
        with self._board.broker_ends.counted():
            pid = self._serving_pid()
            os.kill(pid, number)
            return self._broker.next_pid(pid)

    def _end_broker_and_the_next(self, random: Random) -> None:
        """The next one while it loads, or soon after."""
        self._end_broker(signal.SIGKILL)
        pause(random, LONGEST_STOP_S)
        self._end_broker(signal.SIGKILL)

    def _clean_directory(self, _: Random) -> None:
        """What is in it is removed, as by who cleans up temporary files; the broker makes it again."""
        socket = Path(self._broker.address)
        with self._board.cleanings.counted():
            for path in (socket, locks.of_socket(socket)):
                path.unlink(missing_ok=True)
            wait_until(self.broker_answers, "the socket to be made again", PATIENCE_S)

    def broker_answers(self) -> bool:
        """It is there, and has loaded its models."""
        try:
            return bool(self._broker.status())
        except worker_client.BrokerUnavailable:
            return False

    # -- what must hold --------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises Fault for a worker that has ended, or gets nothing done."""
        self.check_children()
        now = time.monotonic()
        for place, worker in enumerate(self._workers):
            self._living(place)
            calls, since = self._seen[place]
            if self._board.done[place] != calls:
                self._seen[place] = self._board.done[place], now
            elif now - since > PATIENCE_S:
                self._dump(worker)
                raise Fault(f"worker {worker.pid} gets no call done; the tracebacks of its threads are above")

    def _orphans(self) -> list[psutil.Process]:
        """Children of killed workers, which are ours now, and want the broker for their last calls."""
        workers = {worker.pid for worker in self._workers}
        children = [child for child in psutil.Process().children() if child.pid not in workers]
        return [child for child in children if child not in self._others and lives(child)]

    def check_children(self) -> None:
        """Raises Fault if one that a worker has forked has failed, whether that worker lives to tell or not."""
        if self._board.failed:
            raise Fault("a child that a worker has forked has failed; its traceback is above")

    def _fail_for(self, worker: Worker, killed: bool = False) -> None:
        """It has not been told to stop: its answer is what was wrong."""
        try:
            worker.hear(1)
        except EOFError:
            if killed:
                return
            raise Fault(f"worker {worker.pid} ended with {worker.wait()}") from None

    def _dump(self, worker: Worker) -> None:
        """Have it write the tracebacks of its threads to stderr."""
        os.kill(worker.pid, signal.SIGCONT)
        os.kill(worker.pid, DUMP_SIGNAL)
        time.sleep(2)

    def stop(self) -> None:
        """Have all of them end; hear how their calls went, and see whether the broker has forgotten them."""
        self._board.stop()
        for worker in self._workers:
            try:
                self.ends += worker.result(PATIENCE_S)
            except AssertionError:
                if worker.is_alive:
                    self._dump(worker)
                raise
        wait_until(lambda: not self._orphans(), "the end of the killed workers' children", PATIENCE_S)
        self.check_children()
        self._check_broker()

    def _check_broker(self) -> None:
        broker = self._broker
        wait_until(self.broker_answers, "the last broker to serve", PATIENCE_S)
        wait_until(lambda: not broker.workers(), "the last workers' channels to go")
        wait_until(lambda: not broker.shared_memory_bytes(), "their memory")
        wait_until(lambda: len(broker.names()) == 1, f"only the doorbell's name, of {broker.names()}")
        engine = psutil.Process(broker.pid)
        most = self._descriptors
        wait_until(lambda: engine.num_fds() <= most, f"no more than {most} descriptors, as in the beginning")
        with worker_client.connect(broker.address, timeout=60) as client:
            self._job.probe(client)

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        self._workers.clear()
        while orphans := self._orphans():  # after a fault: nobody has waited for their last calls
            for orphan in orphans:
                with contextlib.suppress(psutil.NoSuchProcess):
                    orphan.kill()
            psutil.wait_procs(orphans, PATIENCE_S)


@contextlib.contextmanager
def crew(workers: int, seed: str, models: dict[str, str] | None = None) -> Iterator[Crew]:
    """Workers and their broker, who are gone after the block. `models` in place of some of the usual ones."""
    names = [name for name in MODELS if name not in (models or {})]
    with serving(*names, models=models, supervise=True, slots=4, max_slots=16) as broker:
        made = Crew(broker, workers, seed)
        try:
            yield made
        finally:
            made.close()
        names_of = broker.names
    left = names_of()
    if left:
        raise Fault(f"the stopped broker has left {left}")
