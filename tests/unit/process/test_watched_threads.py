"""Threads that the watchdog asks for an answer: what its parent reads in the run record."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from broker.counters.run_record import RunRecord
from broker.scheduling.probation import Probation
from broker.server.watchdog import Watchdog

SECOND = 1_000_000_000


def test_an_answer_is_seen_at_the_next_check() -> None:
    """Not only when the thread is asked again: meanwhile the parent would end a process that has recovered."""
    asked: list[Callable[[], None]] = []
    record = RunRecord()
    intake = cast(Any, SimpleNamespace(probation=Probation(()), runners=list, served_signatures=[]))
    watchdog = Watchdog(intake, record, {"control": asked.append}, lambda model, why: None, None)
    start = 100 * SECOND
    for second in range(29):
        watchdog._check_runs(start + second * SECOND)
    assert len(asked) == 1
    assert record.seconds_without_answer(start + 29 * SECOND) == {"control": 29.0}
    asked[0]()
    watchdog._check_runs(start + 29 * SECOND)
    assert record.seconds_without_answer(start + 31 * SECOND) == {}
    assert len(asked) == 1
    watchdog._check_runs(start + 30 * SECOND)
    assert len(asked) == 2
