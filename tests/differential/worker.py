"""What a worker's process does: the operations of its plan, in one to three threads, until it is told to stop."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import pickle
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import worker_client
from tests import leaks
from tests.differential import faults, kinds
from tests.differential.caller import Caller
from tests.differential.ledger import Ledger
from tests.differential.log import is_mismatch
from tests.differential.plan import Menu, Operation, Script
from tests.differential.stall import Stall
from tests.differential.ways import WAYS, Setup
from tests.stress.board import Board, Ends
from tests.stress.body import DUMP_SIGNAL, TIMEOUT_S

MOST_THREADS = 3


@dataclass(frozen=True)
class Task:
    """What all workers of a scene are told."""

    models: Path
    records: Path
    """A folder for what each says of itself: the seed of its life, and its failure."""
    ledger: Ledger = field(default_factory=Ledger)
    kinds: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()
    fault: str | None = None
    green: frozenset[int] = frozenset()
    """Places whose workers are monkey patched by gevent."""
    script: Script | None = None
    """To be done in place of what the seed decides."""
    timeout: float = TIMEOUT_S
    """Of patient calls."""

    def life(self, place: int) -> Path:
        return self.records / f"life-{place}"

    def failure(self, place: int) -> Path:
        return self.records / f"failure-{place}"

    def threads(self, place: int) -> int:
        if self.script is not None:
            return len(self.script.processes[place].threads)
        return 1 + place % MOST_THREADS

    def operations(self, seed: str, place: int, thread: int) -> Iterator[Operation]:
        if self.script is not None:
            for _ in range(self.script.rounds):
                yield from self.script.processes[place].threads[thread]
            return
        setup = Setup.GREEN if place in self.green else Setup.OTHER if thread else Setup.MAIN
        yield from Menu(setup, self.kinds, self.ways).operations(f"{seed}.{thread}")


def work(task: Task, place: int, address: str, seed: str, board: Board) -> Counter[str]:
    """Until the board says stop; how calls have ended that were not simply answered. Raises what is wrong."""
    faulthandler.register(DUMP_SIGNAL, all_threads=True)
    if place in task.green:
        from gevent import monkey

        with warnings.catch_warnings():  # of what a forked process had imported before
            warnings.simplefilter("ignore")
            monkey.patch_all()
    task.life(place).write_text(seed)
    kinds.EMBEDDING.open_bank(task.models / kinds.BANK)
    faults.put_into_worker(task.fault)
    before = None if place in task.green else leaks.Snapshot.take()
    complaints = _Complaints()
    logging.getLogger("onesession").addHandler(complaints)
    callers = _run(task, place, address, seed, board, complaints)
    if before is not None:
        found = leaks.find_leaks(before)
        assert not found, f"a worker that has closed its client has {found.report()}"
    return sum((caller.ends for caller in callers), Counter())


def _run(
    task: Task, place: int, address: str, seed: str, board: Board, complaints: _Complaints
) -> list[Caller]:
    pages = list(task.ledger.of_place(place))
    begun = sum(page.total for page in pages)

    def tell() -> None:
        board.done[place] = sum(page.total for page in pages) - begun

    stall = Stall(tell).start()
    wrong: list[BaseException] = []
    closings = Ends()
    with worker_client.connect(address, timeout=task.timeout) as client:
        callers = []
        for thread in range(task.threads(place)):
            caller = Caller(client, place * MOST_THREADS + thread, pages[thread], board, closings, stall)
            caller.address, caller.timeout = address, task.timeout
            callers.append(caller)

        def go_on(thread: int) -> None:
            operations = task.operations(seed, place, thread)
            try:
                _go_on(callers[thread], operations, wrong, complaints)
            except BaseException as error:
                if not wrong:
                    _record(task, place, thread, callers[thread], error)
                wrong.append(error)

        others = [threading.Thread(target=go_on, args=(thread,)) for thread in range(1, len(callers))]
        for other in others:
            other.start()
        go_on(0)
        for other in others:
            other.join()
        for caller in callers:
            caller.close()
        pickle.loads(pickle.dumps(client)).close()  # what all handles that were pickled share
    stall.stop()
    if wrong:
        raise wrong[0]
    return callers


def _go_on(
    caller: Caller, operations: Iterator[Operation], wrong: list[BaseException], complaints: _Complaints
) -> None:
    for index, operation in enumerate(operations):
        if caller.board.stopped or wrong:
            return
        caller.page.begin(index)
        caller.history.append(operation)
        caller.attempt(WAYS[operation.way].do, operation.kind, operation.seed)
        complaints.check()


def _record(task: Task, place: int, thread: int, caller: Caller, error: BaseException) -> None:
    """For the one who makes a script of it."""
    record = {
        "place": place,
        "thread": thread,
        "message": "".join(traceback.format_exception_only(error)).strip(),
        "trace": traceback.format_exc(),
        "history": [str(operation) for operation in caller.history],
    }
    coming = task.failure(place).with_suffix(f".{os.getpid()}-{thread}")
    coming.write_text(json.dumps(record))
    coming.rename(task.failure(place))


class _Complaints(logging.Handler):
    """What the client logs of answers that were not its own."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if is_mismatch(line):
            self.lines.append(line)

    def check(self) -> None:
        assert not self.lines, f"an answer was not this worker's: {self.lines[0]}"
