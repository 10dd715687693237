"""Requests that run at the same time, when the process is ended because of one of them: which request is guilty?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from broker.counters.concurrent_runs import ConcurrentRuns
from broker.counters.run_record import STARTED_NS as LINE_STARTED_NS
from broker.data_plane.runner import Runner
from broker.data_plane.tracer import Tracer
from tests.contract.recording import SERVINGS, Desk
from worker_client.attachment import last_run
from worker_client.attachment.retry_policy import Attempts, BrokerLost
from worker_client.system.clock import monotonic_ns
from worker_client.wire.errors import BrokerUnavailable, ModelFailed
from worker_client.wire.layout import JOINED, STARTED_NS, SUBMITTED_NS

SERVING = SERVINGS[1]
assert SERVING is not None


def taken(rows: int = 1) -> Desk:
    desk = Desk()
    desk.submit(rows=rows)
    desk.take()
    return desk


def is_alone(desk: Desk) -> bool:
    return last_run.was_alone(desk.words, desk.worker.sequence)


def running(monkeypatch: pytest.MonkeyPatch, *runs: Callable[[], object]) -> None:
    """Have each run of the model do the next of these first."""
    left, run = list(runs), SERVING.run

    def run_after(*feeds: np.ndarray) -> object:
        left.pop(0)()
        return run(*feeds)

    monkeypatch.setattr(SERVING, "run", run_after)


def test_both_of_two_runs_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both the run under way and the run that begins beside it are marked, but not the next use of either slot."""
    concurrent_runs = ConcurrentRuns()
    one, other = taken(), taken()
    first, second = (Runner(Tracer(), concurrent_runs=concurrent_runs) for _ in range(2))
    seen: list[bool] = []

    def begin_the_other() -> None:
        seen.append(is_alone(one))
        second.run([other.broker])

    running(monkeypatch, begin_the_other, lambda: seen.extend([is_alone(one), is_alone(other)]))
    first.run([one.broker])
    assert seen == [True, False, False]
    for desk in (one, other):
        desk.completed.acquire(0)
        desk.submit()
        assert is_alone(desk)


def test_one_after_the_other_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one thread, or on two: a run that has ended is not concurrent."""
    concurrent_runs = ConcurrentRuns()
    runners = [Runner(Tracer(), concurrent_runs=concurrent_runs) for _ in range(2)]
    seen: list[bool] = []
    for runner in (*runners, *runners):
        desk = taken()
        with monkeypatch.context() as patch:
            running(patch, lambda desk=desk: seen.append(is_alone(desk)))  # type: ignore[misc]
            runner.run([desk.broker])
    assert seen == [True] * 4


def test_a_runner_that_left_is_not_concurrent() -> None:
    """Threads of unloaded models no longer count."""
    concurrent_runs = ConcurrentRuns()
    first, second = (Runner(Tracer(), concurrent_runs=concurrent_runs) for _ in range(2))
    assert concurrent_runs.several
    concurrent_runs.leave(second)
    assert not concurrent_runs.several
    second.line.words[LINE_STARTED_NS] = 1
    assert not concurrent_runs.meets(first)


def test_a_run_that_is_given_up_is_found_though_it_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the requests of a batch run one by one, the one that runs now gets the error."""
    concurrent_runs = ConcurrentRuns()
    one, other = taken(), taken()
    first, second = (Runner(Tracer(), concurrent_runs=concurrent_runs) for _ in range(2))
    batch = [taken(), one]  # too unlike to be padded, or else not joined: run one by one
    monkeypatch.setattr(type(SERVING), "divisible", False, raising=False)

    def begin_the_other() -> None:
        second.run([other.broker])

    def give_up() -> None:
        assert first.give_up(ModelFailed("no end"))

    running(monkeypatch, lambda: None, begin_the_other, give_up)
    first.run([desk.broker for desk in batch])
    with pytest.raises(ModelFailed, match="no end"):
        one.worker.result()


def words(started_s: float, mark: int = 0) -> memoryview:
    """A slot's header for a run that began `started_s` seconds ago."""
    made = memoryview(bytearray(256)).cast("Q")
    made[SUBMITTED_NS] = 1
    made[STARTED_NS] = (monotonic_ns() - int(started_s * 1e9)) | mark
    return made


@pytest.mark.parametrize("mark", [0, JOINED])
def test_what_a_worker_reads(mark: int) -> None:
    """A worker reads separately whether the run exceeded its limit, and whether it was alone in its batch."""
    assert last_run.began(words(5, mark))
    assert last_run.without_end(words(5, mark), "model 'm'", 10) is None
    assert last_run.without_end(words(5, mark), "model 'm'", 0) is None
    assert "max_run_seconds (1 s)" in str(last_run.without_end(words(5, mark), "model 'm'", 1))
    assert last_run.was_alone(words(5, mark), 7) is not bool(mark)


def test_the_verdict_is_for_a_call_that_is_not_run_again() -> None:
    """Another run shows which request is guilty; if no retry is left, the call gets the error about the limit."""
    lost, plain = BrokerLost("gone", ran=True), BrokerLost("gone", ran=True)
    lost.verdict = ModelFailed("no end within max_run_seconds")
    assert Attempts(1).after(lost).left == 0
    for left, retries in ((0, 1), (0, 0)):
        with pytest.raises(ModelFailed, match="max_run_seconds"):
            Attempts(retries, left).after(lost)
        with pytest.raises(BrokerUnavailable):
            Attempts(retries, left).after(plain)
