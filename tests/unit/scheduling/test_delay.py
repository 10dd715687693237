"""How long a batch waits for more requests, on a fake clock."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.scheduling.delay import AutoDelay, FixedDelay, RunCost
from broker.scheduling.queue import Queue
from tests.unit.scheduling.requests import Request

US = 1000
MS = 1000 * US


def learnt(fixed_us: float, per_row_us: float) -> RunCost:
    cost = RunCost()
    for rows in (1, 7, 2, 6, 3, 8) * 5:
        cost.observe(rows, int((fixed_us + per_row_us * rows) * US))
    return cost


@given(st.floats(1, 1e4), st.floats(0.1, 1e3))
def test_the_cost_of_runs_is_learnt(fixed_us: float, per_row_us: float):
    """From runs of several sizes, what a run costs by itself and what each row adds."""
    cost = learnt(fixed_us, per_row_us)
    assert cost.fixed_ns == pytest.approx(fixed_us * US, rel=0.02, abs=100)
    assert cost.per_row_ns == pytest.approx(per_row_us * US, rel=0.02, abs=100)


def test_from_one_size_no_fixed_cost_is_claimed():
    """Else a delay would wait for a saving that nothing shows."""
    cost = RunCost()
    for _ in range(20):
        cost.observe(4, 400 * US)
    assert cost.fixed_ns == 0
    assert cost.expect_ns(8) == pytest.approx(800 * US)


def test_a_fixed_delay_counts_from_the_oldest():
    """And ends early enough for the most urgent."""
    delay = FixedDelay(5 * MS, learnt(100, 1))
    old, new = Request("old", taken_ns=1 * MS), Request("new", taken_ns=3 * MS)
    assert delay.hold_until([new, old], 2, 3 * MS) == 6 * MS
    urgent = Request("urgent", taken_ns=3 * MS, deadline_ns=4 * MS)
    assert delay.hold_until([new, old, urgent], 3, 3 * MS) < 4 * MS - 200 * US


class ClosedLoop:
    """Callers that send their next request `think_us` after the last answer; one run at a time, on a fake clock."""

    def __init__(self, callers: int, think_us: float, fixed_us: float, per_row_us: float, auto: bool) -> None:
        self.cost = RunCost()
        self.delay = AutoDelay(self.cost) if auto else None
        self.queue: Queue[Request] = Queue(Request.split)
        self.think_us, self.fixed_us, self.per_row_us = think_us, fixed_us, per_row_us
        self.random = random.Random(5)
        self.arrivals = [(self.random.uniform(0, 1000) * US, caller) for caller in range(callers)]
        self.now = 0.0
        self.latencies: list[float] = []

    def run(self, requests: int) -> float:
        """Mean latency in microseconds of so many requests."""
        while len(self.latencies) < requests:
            self.arrive()
            batch = self.queue.next_batch(int(self.now))
            if batch:
                self.serve(batch)
            else:
                times = [when for when, _ in self.arrivals]
                if self.queue:
                    times.append(self.queue.hold_until(int(self.now)))
                self.now = max(self.now + 1, min(times))
        return sum(self.latencies) / len(self.latencies) / US

    def arrive(self) -> None:
        for arrival in sorted(self.arrivals):
            when, caller = arrival
            if when <= self.now:
                self.arrivals.remove(arrival)
                self.queue.add(
                    Request("r", caller, batch_limit=64, delay=self.delay, taken_ns=int(when))  # type: ignore[arg-type]
                )

    def serve(self, batch: list[Request]) -> None:
        duration = (self.fixed_us + self.per_row_us * len(batch)) * US
        self.cost.observe(len(batch), int(duration))
        self.now += duration
        self.queue.answered(batch, batch[0].delay, int(self.now))
        for request in batch:
            self.latencies.append(self.now - request.taken_ns)
            think = self.random.uniform(0.8, 1.2) * self.think_us * US
            self.arrivals.append((self.now + think, int(request.worker)))  # type: ignore[call-overload]


def mean_latency(callers: int, think_us: float, fixed_us: float, per_row_us: float, auto: bool) -> float:
    return ClosedLoop(callers, think_us, fixed_us, per_row_us, auto).run(2000)


def test_one_caller_is_never_held_up():
    """An idle system is not made slower by a nanosecond."""
    assert mean_latency(1, 100, 400, 10, auto=True) == mean_latency(1, 100, 400, 10, auto=False)


def test_waiting_for_those_who_come_back_together_pays():
    """Eight callers whose runs cost the same alone or together: without a delay they run one and seven in turns."""
    held, at_once = (mean_latency(8, 80, 400, 10, auto) for auto in (True, False))
    assert held < 0.8 * at_once


@pytest.mark.parametrize("callers", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("think_us", [10, 100, 1000, 10_000])
@pytest.mark.parametrize(("fixed_us", "per_row_us"), [(5, 1), (400, 10), (400, 200), (50, 400), (5000, 100)])
def test_a_learnt_delay_never_costs_much(callers: int, think_us: float, fixed_us: float, per_row_us: float):
    """Whatever the traffic and the model, calls take at most a few percent longer than without."""
    held = mean_latency(callers, think_us, fixed_us, per_row_us, auto=True)
    at_once = mean_latency(callers, think_us, fixed_us, per_row_us, auto=False)
    assert held <= 1.05 * at_once
