"""What a parent concludes from a run record, read through a second mapping, as another process does."""

from __future__ import annotations

import os
from time import monotonic_ns
from types import SimpleNamespace
from typing import Any

import pytest

from broker.counters.run_record import LINES, STARTED_NS, RunRecord
from broker.observe.liveness import (
    CHECK_SECONDS,
    OVERDUE_SECONDS,
    QUIET_SECONDS,
    SILENT_SECONDS,
    seconds_to_next_poll,
    stuck,
    why_replace,
)
from broker.server.watchdog import Watchdog

SECOND = 1_000_000_000
START = 1000 * SECOND


def mapped_twice() -> tuple[RunRecord, RunRecord]:
    """As the parent has it, and as the process that it watches has, which has just given a sign of life."""
    parents = RunRecord.create()
    ours = RunRecord.attach(os.dup(parents.fd))
    parents.close_fd()
    ours.beat(START)
    return parents, ours


def run(record: RunRecord, model: str, limit_s: float, started: int = START) -> None:
    line = record.new_line()
    line.describe(object(), model, int(limit_s * SECOND))
    line.words[STARTED_NS] = started


def test_an_idle_process_is_left_alone() -> None:
    """Nothing runs, it has just given a sign of life: nothing to do, nothing stuck."""
    parents, _ours = mapped_twice()
    assert why_replace(parents, START + SECOND) == ""
    assert stuck(parents, START + SECOND, 1.0) == []
    assert parents.under_way(START) == []


def test_what_runs_can_be_read_by_another_process() -> None:
    """Model, time and limit of each thread, the intake's first."""
    parents, ours = mapped_twice()
    run(ours, "light", 60)
    run(ours, "größer", 0, START - SECOND)
    first, second = parents.under_way(START + SECOND)
    assert (first.line, first.model, first.seconds, first.limit_s) == (0, "light", 1, 60)
    assert (second.model, second.seconds, second.limit_s) == ("größer", 2, 0)
    assert parents.knows("größer")
    assert not parents.knows("other")


def test_a_run_past_its_limit_is_the_processs_to_end() -> None:
    """It has a moment for that, as long as it gives signs of life; then its parent ends it, and names the model."""
    parents, ours = mapped_twice()
    run(ours, "loop", 3)
    late = START + int((3 + OVERDUE_SECONDS / 2) * SECOND)
    ours.beat(late)
    assert why_replace(parents, late) == ""
    later = START + int((3 + OVERDUE_SECONDS + 0.1) * SECOND)
    ours.beat(later)
    assert "'loop'" in why_replace(parents, later)
    assert "max_run_seconds is 3" in why_replace(parents, later)


def test_a_run_that_holds_the_interpreters_lock_is_ended_at_its_limit() -> None:
    """No sign of life, and a run past its limit: nobody in the process sees to it."""
    parents, ours = mapped_twice()
    run(ours, "regex", QUIET_SECONDS + 1)
    assert why_replace(parents, START + int((QUIET_SECONDS + 0.9) * SECOND)) == ""
    assert "'regex'" in why_replace(parents, START + int((QUIET_SECONDS + 1.1) * SECOND))


def test_a_parent_looks_when_there_may_be_something_to_see() -> None:
    """Now and then while nothing runs; as soon as the limit is past and the silence long enough, if something does."""
    parents, ours = mapped_twice()
    assert seconds_to_next_poll(parents, START) == CHECK_SECONDS
    run(ours, "regex", 1)
    assert seconds_to_next_poll(parents, START) == CHECK_SECONDS
    just_before = START + int((QUIET_SECONDS - 0.1) * SECOND)
    soon = seconds_to_next_poll(parents, just_before)
    assert soon < CHECK_SECONDS
    assert "'regex'" in why_replace(parents, just_before + int(soon * SECOND))


def test_a_slow_run_within_its_limit_is_left_alone_however_silent_the_process() -> None:
    """A second of C code with the interpreter's lock, on a machine so busy that it takes ten: no reason to end it."""
    parents, ours = mapped_twice()
    run(ours, "slow", 30)
    assert why_replace(parents, START + 10 * SECOND) == ""


def test_the_first_sign_of_life_comes_before_the_first_run() -> None:
    """Else a run that takes the lock at once would leave a process that has never given any, and so counts as well."""
    record = RunRecord()
    intake: Any = SimpleNamespace(served_signatures=[], runners=list)
    watch = Watchdog(intake, record, {}, lambda model, cause: None, None)
    watch.start()
    try:
        assert record.seconds_since_beat(monotonic_ns() + 10 * SECOND) > 9
    finally:
        watch.stop()


def test_a_run_without_a_limit_is_never_ended() -> None:
    """A run with max_run_seconds = 0 is never ended, even if it holds the interpreter lock or the intake."""
    parents, ours = mapped_twice()
    run(ours, "train", 0)
    ours.no_answer("intake", START)
    assert why_replace(parents, START + 3600 * SECOND) == ""


def test_a_process_that_gives_no_sign_of_life_is_ended() -> None:
    """Even with nothing under way, after a time that an import may take."""
    parents, _ours = mapped_twice()
    assert why_replace(parents, START + int((SILENT_SECONDS - 1) * SECOND)) == ""
    assert "has not shown that it is alive" in why_replace(
        parents, START + int((SILENT_SECONDS + 1) * SECOND)
    )


@pytest.mark.parametrize("thread", ["intake", "control"])
def test_a_thread_that_does_not_go_round_is_told_and_ended(thread: str) -> None:
    """systemd is told soon, the process is ended late; nothing once the thread has answered."""
    parents, ours = mapped_twice()
    ours.no_answer(thread, START)
    soon, late = START + 2 * SECOND, START + int((SILENT_SECONDS + 1) * SECOND)
    ours.beat(soon)
    assert stuck(parents, soon, 1.0) == [thread]
    assert why_replace(parents, soon) == ""
    ours.beat(late)
    assert f"its {thread} thread" in why_replace(parents, late)
    ours.no_answer(thread, 0)
    assert (why_replace(parents, late), stuck(parents, late, 1.0)) == ("", [])


def test_a_light_run_is_for_its_limit_to_end() -> None:
    """The intake that does not answer since it runs a model is not taken for stuck before the limit."""
    parents, ours = mapped_twice()
    run(ours, "light", 600)
    ours.no_answer("intake", START)
    late = START + int((SILENT_SECONDS + 1) * SECOND)
    ours.beat(late)
    assert why_replace(parents, late) == ""
    assert stuck(parents, late, 1.0) == ["intake"]


def test_more_threads_than_lines_do_no_harm() -> None:
    """Those beyond are not seen from outside."""
    parents, ours = mapped_twice()
    for number in range(LINES + 3):
        run(ours, f"m{number}", 1)
    assert len(parents.under_way(START)) == LINES


def test_a_record_of_nobody_is_always_well() -> None:
    """Where the system has no such memory nothing is judged."""
    assert why_replace(RunRecord(), START) == ""
    assert stuck(RunRecord(), START, 1.0) == []
