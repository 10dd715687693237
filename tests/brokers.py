"""Brokers for tests: a broker in its own process, what it has left on the machine, and gates inside its models."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from broker import Broker
from broker.control_plane import locks
from broker.control_plane.query import ask
from broker.sharing.memory import sweep
from tests.process.models import GATE_VARIABLE, sources
from worker_client.wire.address import name_prefix

SHM = Path("/dev/shm")
PATIENCE_S = 30.0
_REST_S = 0.03
"""How long to wait for what must come soon: far longer than it takes on a loaded machine."""


def wait_until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """The first true value of `condition`. For conditions without an event to wait for. Fails instead of hanging."""
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.002)
    return value


class Gate:
    """Holds requests inside the models `gated...` (tests/process/models.py), told apart by their numbers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self, number: int) -> int:
        """How often a request of this number has entered the model."""
        return len(list(self.folder.glob(f"entered.*.{number}.*")))

    def deaths(self) -> int:
        """How many processes the model `deadly` has taken with it."""
        return len(list(self.folder.glob("died.*")))

    def wait_for(self, number: int, times: int = 1) -> None:
        wait_until(lambda: self.entries(number) >= times, f"request {number} in the model")

    def open(self, number: int | None = None) -> None:
        """Let this request through, or all present and future ones."""
        (self.folder / f"open.{'all' if number is None else number}").touch()


class TestBroker:
    """A broker in its own process, with the questions that tests ask about it."""

    __test__ = False

    def __init__(self, broker: Broker, gate: Gate) -> None:
        self.broker = broker
        self.gate = gate
        self.address = broker.address

    @property
    def pid(self) -> int:
        assert self.broker.pid is not None
        return self.broker.pid

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = ask(self.address, "status")["status"]
        return status

    def shared_memory_bytes(self) -> int:
        return int(self.status()["shared_memory_bytes"])

    def workers(self) -> list[int]:
        """Process ids of the attached workers."""
        return [worker["pid"] for worker in self.status()["workers"]]

    def wait_for_workers(self, *pids: int) -> None:
        """Wait until exactly these workers are attached, and the broker holds nothing for others any more.

        The broker removes a worker that has gone from its list before it releases the worker's memory.
        """
        wait_until(lambda: self._has_only(pids), f"no workers but {pids}, and no memory of others")

    def _has_only(self, pids: tuple[int, ...]) -> bool:
        status = self.status()
        workers = status["workers"]
        held = sum(worker["shared_memory_bytes"] for worker in workers)
        return sorted(w["pid"] for w in workers) == sorted(pids) and status["shared_memory_bytes"] == held

    def counters(self, model: str) -> dict[str, Any]:
        """With all that was answered, which is counted just after: they are at rest, unless calls or runs go on."""
        deadline, before = time.monotonic() + 1, None
        while True:
            running = ask(self.address, "stats")["stats"]["slots"]["running"]
            (counters,) = self.status()["models"][model].values()
            if time.monotonic() > deadline or (counters == before and not running):
                return dict(counters)
            before = counters
            time.sleep(_REST_S)

    def wait_for_in_flight(self, count: int) -> None:
        """Wait until this many requests have been submitted and not answered."""
        wait_until(
            lambda: sum(w["in_flight"] for w in self.status()["workers"]) >= count, f"{count} in flight"
        )

    def names(self) -> list[str]:
        """The names in /dev/shm that are this broker's."""
        stem = name_prefix(Path(self.address)).lstrip("/")
        return sorted(name for name in os.listdir(SHM) if stem in name)

    def mappings(self) -> list[str]:
        """The shared memory that the broker's process really has mapped, deleted names included."""
        return mappings_of(self.pid, self.address)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)
        if number == signal.SIGSTOP:  # which returns while some of its threads still run
            wait_until(self._is_stopped, "its threads to stop")

    def _is_stopped(self) -> bool:
        stats = [path.read_text() for path in Path(f"/proc/{self.pid}/task").glob("*/stat")]
        return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        self.signal(signal.SIGKILL)
        self.broker.stop()

    def kill_engine(self) -> int:
        """SIGKILL for a supervised broker's process, which its parent will start again; the pid it had."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        return pid

    def next_pid(self, pid: int) -> int:
        """Wait until another process than `pid` serves; its pid."""
        return int(
            wait_until(lambda: self.broker.pid not in (None, pid) and self.broker.pid, "the next broker")
        )

    def stop(self) -> None:
        self.broker.stop()


def mappings_of(pid: int, address: str) -> list[str]:
    """Lines of /proc/PID/maps for the shared memory of the broker at `address`."""
    stem = name_prefix(Path(address)).lstrip("/")
    return re.findall(rf".*{re.escape(stem)}.*", Path(f"/proc/{pid}/maps").read_text())


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket; pytest's are not. Takes what killed brokers in it left."""
    path = Path(tempfile.mkdtemp(prefix="onesession-test-"))
    try:
        yield path
    finally:
        for socket in path.glob("*.sock"):
            sweep(name_prefix(socket))
            locks.of_names(socket).unlink(missing_ok=True)
        shutil.rmtree(path)


@contextlib.contextmanager
def serving(
    *names: str, models: dict[str, Any] | None = None, path: Path | None = None, **options: Any
) -> Iterator[TestBroker]:
    """A broker that serves these of the test models, and `models`, at the socket `path` or one of its own.

    One that dies stays dead, but for `supervise=True`.
    """
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(folder())
        gate = Gate(place)
        broker = Broker(
            {**sources(*names), **(models or {})},
            name=os.fspath(path or place / "b.sock"),
            **{"supervise": False, **options},
        )
        stack.callback(broker.stop)
        stack.callback(gate.open)  # first of all, so that nothing waits when the broker stops
        with _environment(GATE_VARIABLE, os.fspath(place)):
            broker.start()
        yield TestBroker(broker, gate)


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
