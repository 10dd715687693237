"""The shortest script that still fails: whole processes, threads and halves of what is left are taken out in turn.

Candidates are played on one broker, by fresh workers, because most faults are in a channel. The time is bounded.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from tests.brokers import TestBroker, wait_until
from tests.differential.log import check_log
from tests.differential.plan import Operation, Process, Script
from tests.differential.stage import QUIET_TIMEOUT_S, broker_of
from tests.differential.worker import Task, work
from tests.stress.board import Board
from tests.stress.body import TIMEOUT_S
from tests.workers import Worker, WorkerFailed
from worker_client import BrokerUnavailable

_WINDOWS = (20, 100, 400)
_PLAY_S = 60.0
_KILL_EVERY_S = 2.0
_TRIES = 3

Fails = Callable[[Script], bool]


class Player:
    """Plays scripts on a broker that has the fault they name."""

    def __init__(self, models: Path, fault: str | None) -> None:
        self._models = models
        self._fault = fault
        self._stack = contextlib.ExitStack()
        self._numbers = itertools.count()
        self._broker: TestBroker | None = None
        self.message = ""

    def __enter__(self) -> Player:
        self._place = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(prefix="onesession-replay-"))
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fails(self, script: Script) -> bool:
        """Play it once; `message` says what was wrong."""
        folder = self._place / str(next(self._numbers))
        folder.mkdir()
        try:
            self._play(script, self._ready(), folder)
            check_log(self._log)
        except AssertionError as error:
            self.message = str(error)
            self._renew()
            return True
        return False

    def _ready(self) -> TestBroker:
        if self._broker is None:
            self._log = self._place / f"broker-{next(self._numbers)}.log"
            self._held = contextlib.ExitStack()
            self._stack.push(self._held)
            self._broker = self._held.enter_context(broker_of(self._models, self._fault, self._log))
        return self._broker

    def _renew(self) -> None:
        """Start another broker for the next candidate if this one, or its log, shows the fault; if only workers
        noticed, it stays."""
        try:
            check_log(self._log)
        except AssertionError:
            self._held.close()
            self._broker = None

    def _play(self, script: Script, broker: TestBroker, folder: Path) -> None:
        green = frozenset(number for number, one in enumerate(script.processes) if one.green)
        timeout = TIMEOUT_S if script.chaos else QUIET_TIMEOUT_S
        task = Task(self._models, folder, fault=self._fault, green=green, script=script, timeout=timeout)
        board = Board()
        with contextlib.ExitStack() as stack:
            workers = []
            for number in range(len(script.processes)):
                workers.append(Worker(work, task, number, broker.address, "replay", board))
                stack.callback(workers[-1].close)
            if script.chaos:
                _kill_brokers(broker, board, workers)
            for worker in workers:
                worker.result(_PLAY_S)
            wrong = task.ledger.wrong_counts(bool(board.broker_ends.over))
            if wrong:
                raise WorkerFailed(wrong)


def _kill_brokers(broker: TestBroker, board: Board, workers: list[Worker]) -> None:
    """As long as they work."""
    due = time.monotonic() + _KILL_EVERY_S
    while any(worker.is_alive for worker in workers):
        time.sleep(0.05)
        if time.monotonic() > due:
            with board.broker_ends.counted():
                broker.next_pid(broker.kill_engine())
            wait_until(lambda: _serves(broker), "the next broker", _PLAY_S)
            due = time.monotonic() + _KILL_EVERY_S


def _serves(broker: TestBroker) -> bool:
    try:
        return bool(broker.status())
    except BrokerUnavailable:
        return False


def shrink(
    script: Script,
    culprit: tuple[int, int] | None,
    player: Player,
    seconds: float,
    tell: Callable[[str], None],
) -> Script:
    """The shortest that was seen to fail; all of it if none was."""
    limit = time.monotonic() + seconds

    def fails(candidate: Script) -> bool:
        return time.monotonic() < limit and any(
            player.fails(candidate) for _ in range(_TRIES) if time.monotonic() < limit
        )

    found = next((one for one in _beginnings(script, culprit) if fails(one)), None)
    if found is None:
        tell("no script repeats it within that time: the whole one is kept")
        return script
    found = _reduced(found, fails)
    tell(f"a script of {found.size} operations repeats it")
    return found


def _beginnings(script: Script, culprit: tuple[int, int] | None) -> Iterator[Script]:
    """From the little that is likely to do, to all."""
    script = replace(script, chaos=False)
    if culprit is not None:
        place, thread = culprit
        process = script.processes[place]
        for window in _WINDOWS:
            threads = [process.threads[thread][-window:]]
            yield replace(script, processes=[replace(process, threads=threads)])
        yield replace(script, processes=[process])
    for window in _WINDOWS:
        shorter = [replace(one, threads=[t[-window:] for t in one.threads]) for one in script.processes]
        yield replace(script, processes=shorter, rounds=1 + _WINDOWS[-1] // window)


def _reduced(script: Script, fails: Fails) -> Script:
    while True:
        smaller = next((one for one in _without_one(script) if fails(one)), None)
        if smaller is None:
            break
        script = smaller
    for number, process in enumerate(script.processes):
        for thread in range(len(process.threads)):
            script = _with_less(script, number, thread, fails)
    once = replace(script, rounds=1)
    return once if script.rounds > 1 and fails(once) else script


def _without_one(script: Script) -> Iterator[Script]:
    """Without one of the processes, or one of the threads."""
    several = script.processes
    if len(several) > 1:
        for number in range(len(several)):
            yield replace(script, processes=several[:number] + several[number + 1 :])
    for number, process in enumerate(several):
        if len(process.threads) > 1:
            for thread in range(len(process.threads)):
                left = process.threads[:thread] + process.threads[thread + 1 :]
                yield _with(script, number, replace(process, threads=left))


def _with_less(script: Script, number: int, thread: int, fails: Fails) -> Script:
    """Without as many operations of this thread as can go: halves, quarters ... single ones (delta debugging)."""
    chunk = len(script.processes[number].threads[thread])
    while chunk:
        start = 0
        while start < len(script.processes[number].threads[thread]):
            process = script.processes[number]
            operations = process.threads[thread]
            left: list[Operation] = operations[:start] + operations[start + chunk :]
            threads = [*process.threads[:thread], left, *process.threads[thread + 1 :]]
            candidate = _with(script, number, replace(process, threads=threads))
            if fails(candidate):
                script = candidate
            else:
                start += chunk
        chunk //= 2
    return script


def _with(script: Script, number: int, process: Process) -> Script:
    return replace(script, processes=[*script.processes[:number], process, *script.processes[number + 1 :]])
