"""What a window takes down: which calls count, from which moment, and that none is left out."""

from __future__ import annotations

from time import monotonic_ns, sleep

import pytest

from broker.bench.load import loops
from broker.bench.load.loops import Caller, Moments, WindowRecord
from broker.bench.load.samples import STAGES, Window
from worker_client.wire.errors import Overloaded

START, END = 1_000, 2_000


@pytest.fixture
def record() -> WindowRecord:
    return WindowRecord(START, END, inputs=1)


def test_a_call_of_the_closed_loop_counts_where_it_ends(record: WindowRecord) -> None:
    for began, ended in ((800, 990), (990, 1_100), (1_100, 1_900), (1_900, 2_100)):
        record.answered(began, ended)
    samples = record.done()
    assert list(samples.taken_ns) == [110, 800]
    assert samples.per_s == 2 * 1e9 / (1_900 - 990)  # from the last end before the window to the last in it


def test_a_planned_call_counts_from_its_planned_moment_whenever_it_ends(record: WindowRecord) -> None:
    """The one that stalls until 3000 holds up two more, whose wait is theirs though they were sent after it."""
    for planned, ended in ((900, 1_050), (1_100, 3_000), (1_200, 3_010), (1_300, 3_020)):
        record.answered_as_planned(planned, ended)
    assert list(record.done().taken_ns) == [1_900, 1_810, 1_720]


def test_what_was_not_sent_waits_until_the_end_at_least(record: WindowRecord) -> None:
    for planned in (900, 1_500, 1_990):
        record.left_out(planned)
    samples = record.done()
    assert (samples.unsent, list(samples.taken_ns)) == (2, [500, 10])


def test_stages_add_up_to_the_call(record: WindowRecord) -> None:
    record.looked_at(1_000, 1_010, 1_600, (1_020, 1_050, 1_100, 1_400, 1_450, 1_500, 8))
    stages = list(record.done().stages_ns)
    assert len(stages) == len(STAGES) + 1
    assert sum(stages[:-1]) == 600
    assert stages == [10, 10, 30, 50, 300, 50, 50, 100, 8]


def in_a_window(call: Caller, moments: list[int], seconds: float = 0.2) -> WindowRecord:
    start = monotonic_ns()
    record = WindowRecord(start, start + int(seconds * 1e9), inputs=3)
    loops.planned(call, [0, 1, 2], record, Moments(moments, start))
    return record


def test_no_planned_request_is_omitted_when_a_call_stalls() -> None:
    """The first call lasts past the window: every other one was due meanwhile, and is in the figures all the same."""
    moments = [index * 10_000_000 for index in range(20)]
    samples = in_a_window(Caller(lambda x: sleep(0.3)), moments).done()
    assert len(samples.taken_ns) == 20
    assert samples.unsent == 19
    assert sorted(samples.taken_ns, reverse=True)[1:] == [200_000_000 - moment for moment in moments[1:]]


def test_a_plan_that_is_kept_has_an_answer_for_each_request() -> None:
    record = in_a_window(Caller(lambda x: x), [index * 1_000_000 for index in range(100)])
    samples = record.done()
    assert (len(samples.taken_ns), samples.unsent, record.answers) == (100, 0, [0, 1, 2])


def test_failures_are_counted_apart() -> None:
    def fail(x: object) -> None:
        raise Overloaded("full")

    samples = in_a_window(Caller(fail), [1_000_000, 2_000_000]).done()
    assert samples.failures == {"Overloaded": 2}
    assert not samples.taken_ns


def test_the_closed_loop_ends_with_its_window_and_asks_each_input() -> None:
    start = monotonic_ns()
    record = WindowRecord(start, start + 50_000_000, inputs=3)
    loops.closed(Caller(lambda x: x), [0, 1, 2], record)
    samples = record.done()
    assert record.answers == [0, 1, 2]
    assert samples.answered == len(samples.taken_ns) > 0


def test_windows_together_join_samples_and_average_rates() -> None:
    one, other = WindowRecord(START, END, 1), WindowRecord(START, END, 1)
    one.answered(900, 1_500)
    other.answered(1_000, 1_250)
    other.answered(1_250, 1_500)
    windows = [Window.of([each.done()], 1.0, 0.5, 0.0) for each in (one, other)]
    joined = Window.together(windows)
    assert joined.taken_ns.tolist() == [250, 250, 600]
    assert joined.per_s == (windows[0].per_s + windows[1].per_s) / 2
    assert (joined.ns(50), joined.ns(100), joined.seconds, joined.cpu_s) == (250, 600, 2.0, 1.0)
