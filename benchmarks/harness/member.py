"""One process of a crew: calls in a closed loop during a window that begins and ends at the same time for all.

crew                                        member (forked)
(start, end)  -------- pipe -------->       calls until `end`; those that end after `start` count
              <------- pipe ---------       Tally, or the text of an error
None          ---------------------->       closes what it has open and ends
"""

from __future__ import annotations

import random
import time
import traceback
from array import array
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from time import monotonic_ns
from typing import Any

import numpy as np

from benchmarks.harness.lifetime import fork, wait_or_kill
from benchmarks.harness.timed import Answers, Flow, Member, Timed
from benchmarks.workloads import Checker

MOST_CALLS = 1_000_000
"""Of one member in one window: what bounds the load besides the time."""
STOP_TIMEOUT_S = 15.0


class MemberFailed(Exception):
    """A member answered wrongly, raised, ended or did not answer."""


@dataclass(frozen=True)
class Tally:
    """What one member did in a window: answers a second, nanoseconds of each, answers compared."""

    per_s: float
    taken_ns: array[int]
    checked: int


class MemberProcess:
    """The crew's end of one member."""

    def __init__(self, member: Member) -> None:
        self.counted = member.counted
        self._connection, theirs = Pipe()
        with theirs:
            self._pid = fork(_main, theirs, self._connection, member)

    def run(self, start_ns: int, end_ns: int) -> None:
        self._connection.send((start_ns, end_ns))

    def receive(self, timeout_s: float) -> Any:
        """The answer to `run`, or at first that it is ready. Raises MemberFailed."""
        try:
            if not self._connection.poll(timeout_s):
                raise MemberFailed(f"a worker took longer than {timeout_s:g} s")
            said = self._connection.recv()
        except (EOFError, ConnectionError):
            raise MemberFailed("a worker ended by itself") from None
        if isinstance(said, str):
            raise MemberFailed(said)
        return said

    def stop(self) -> None:
        """After a window or in the middle of one, whose end it then awaits."""
        try:
            self._connection.send(None)
            while self._connection.poll(STOP_TIMEOUT_S):
                self._connection.recv()
        except (EOFError, ConnectionError):
            pass
        self._connection.close()
        wait_or_kill(self._pid, STOP_TIMEOUT_S)


def _main(connection: Connection, others: Connection, member: Member) -> None:
    others.close()
    try:
        _serve(connection, member)
    except Exception as error:
        traceback.print_exc()
        connection.send(f"{type(error).__name__}: {error}")


def _serve(connection: Connection, member: Member) -> None:
    checker = Checker(member.workload)
    with member.open() as opened:
        flow = opened if isinstance(opened, Flow) else _one_by_one(opened, member)
        with closing(flow.answers()) as answers:
            for _, (index, _, _, answer) in zip(member.workload.inputs, answers):
                checker.check(index, answer)  # first use is not what is measured
        connection.send(True)
        while (times := connection.recv()) is not None:
            with closing(flow.answers()) as answers:
                connection.send(tally(answers, checker, *times))


def tally(answers: Answers, checker: Checker, start_ns: int, end_ns: int) -> Tally:
    """Count the answers that come between `start_ns` and `end_ns`; all are checked. Raises WrongAnswer.

    The time that goes with them is from the last answer before them to the last of them, which neither counts a
    call in part nor favours slow calls.
    """
    taken = array("q")
    check, add = checker.check, taken.append
    checked, first, last = checker.checked, start_ns, start_ns
    for index, began_ns, ended_ns, answer in answers:
        check(index, answer)
        if ended_ns >= end_ns:
            break
        if ended_ns > start_ns:
            add(ended_ns - began_ns)
            last = ended_ns
            if len(taken) == MOST_CALLS:
                break
        else:
            first = ended_ns
    per_s = len(taken) * 1e9 / (last - first) if taken else 0.0
    return Tally(per_s, taken, checker.checked - checked)


def _one_by_one(timed: Timed, member: Member) -> Flow:
    """A caller that waits for each answer, and then does something else, before it asks again."""
    assert timed.prepare is timed.read is timed.elapsed_ns is None
    inputs = list(enumerate(member.workload.inputs))
    if not (member.pause_s or member.work_s):
        return Flow(lambda: _calls(timed.call, inputs))
    return Flow(lambda: _paced_calls(timed.call, inputs, member.pause_s, int(member.work_s * 1e9)))


def _calls(call: Callable[[np.ndarray], np.ndarray], inputs: list[tuple[int, np.ndarray]]) -> Answers:
    clock = monotonic_ns
    for index, x in cycle(inputs):
        began = clock()
        answer = call(x)
        yield index, began, clock(), answer


def _paced_calls(
    call: Callable[[np.ndarray], np.ndarray],
    inputs: list[tuple[int, np.ndarray]],
    pause_s: float,
    work_ns: int,
) -> Answers:
    clock = monotonic_ns
    for index, x in cycle(inputs):
        if pause_s:
            time.sleep(pause_s * random.uniform(0.5, 1.5))  # so that none keeps step with a clock
        end = time.thread_time_ns() + work_ns
        while time.thread_time_ns() < end:
            pass
        began = clock()
        answer = call(x)
        yield index, began, clock(), answer
