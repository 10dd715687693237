"""Several pytest processes that share one run's tests (`pytest -n 3`): what they must not do at the same time.

Tests marked `alone` wait until no other test runs, and none begins while they run: those that measure what the machine
does, or look at what belongs to all of it. The others wait for none but those.

A name in /dev/shm whose maker has ended may be any process's: it is looked at when all have ended (tests/leaks.py).
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import leaks

FILE = "onesession_turns"
UNJUDGED = "onesession_unjudged"
"""Of a test's report: the names for which it may be to blame."""

_GATE, _ROOM = 0, 1


class Turns:
    """A lock that many tests hold together, or one alone, by two bytes of a file.

    A process that dies releases it, and no forked child holds it: a POSIX lock belongs to one process.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR)

    def take(self, alone: bool) -> None:
        # Who waits to be alone waits inside the gate, so that nobody else can begin before it.
        self._lock(fcntl.LOCK_EX, _GATE)
        self._lock(fcntl.LOCK_EX if alone else fcntl.LOCK_SH, _ROOM)
        self._lock(fcntl.LOCK_UN, _GATE)

    def give_back(self) -> None:
        self._lock(fcntl.LOCK_UN, _ROOM)

    def close(self) -> None:
        os.close(self._file)

    def _lock(self, how: int, byte: int) -> None:
        fcntl.lockf(self._file, how, 1, byte)


class OneOfSeveral:
    """In each process that runs tests."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        leaks.Snapshot.shared = True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Outside everything that limits a test's time: to wait for one's turn is no hang."""
        self._turns.take(alone=item.get_closest_marker("alone") is not None)
        try:
            return (yield)
        finally:
            self._turns.give_back()

    def pytest_unconfigure(self) -> None:
        self._turns.close()


class Overseer:
    """In the process that starts the others and collects their reports."""

    def __init__(self) -> None:
        descriptor, self._path = tempfile.mkstemp(prefix="onesession-turns-")
        os.close(descriptor)
        self._before = leaks.Snapshot.take()
        self._suspects: defaultdict[str, list[str]] = defaultdict(list)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[FILE] = self._path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for key, name in report.user_properties:
            if key == UNJUDGED and report.when == "teardown":
                self._suspects[str(name)].append(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        """When all the others have ended: an error, beside those of the tests, for each name that is left."""
        result = yield
        left = leaks.Leaks(names=leaks.new_names(self._before))
        for name in left.names:
            session.config.hook.pytest_runtest_logreport(report=self._report(name))
        left.contain()
        return result

    def _report(self, name: str) -> pytest.TestReport:
        suspects = "".join(f"\n  {test}" for test in self._suspects[name])
        text = (
            f"the run left behind: shared-memory name {leaks.SHM / name}\nfirst seen after one of:{suspects}"
        )
        return pytest.TestReport(name, (name, None, name), {}, "failed", text, "teardown")

    def pytest_unconfigure(self) -> None:
        Path(self._path).unlink(missing_ok=True)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder which the first process that asks for it makes, for all those of the run."""
    root = factory.getbasetemp()
    if leaks.Snapshot.shared:
        root = root.parent
    folder, made = root / name, root / f"{name}.made"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        if not made.exists():
            make(folder)
            made.touch()
    return folder


def prepare(config: pytest.Config) -> None:
    """Register what this process needs, if it is one of several."""
    theirs = getattr(config, "workerinput", None)
    if theirs is not None:
        config.pluginmanager.register(OneOfSeveral(Turns(theirs[FILE])))
    elif config.getoption("numprocesses", None):
        config.pluginmanager.register(Overseer())
