"""The counters of one thread for the requests that it runs."""

from __future__ import annotations

from broker.counters import thread_counters as tallies
from broker.counters.histogram import Histogram
from broker.counters.thread_counters import STAGES, ThreadCounters


def sums(tally: ThreadCounters) -> dict[str, tuple[int, int]]:
    """{stage: (how many, nanoseconds)}"""
    return {
        stage: (sum(getattr(tally, stage)), getattr(tally, f"{stage}_ns"))
        for stage in STAGES
        if sum(getattr(tally, stage))
    }


def test_one_request():
    """Each stage is counted, and they make up the total."""
    tally = ThreadCounters()
    tally.ran_one([1000, 1200, 9000], 1500, 8000, 3)
    assert sums(tally) == {
        "queue": (1, 200),
        "wait": (1, 300),
        "run": (1, 6500),
        "copy": (1, 1000),
        "total": (1, 8000),
    }
    assert (tally.rows, tally.sizes) == (3, {3: 1})


def test_a_run_without_an_answer():
    """A part of a request, or outputs that could not be sent, are a run and no request."""
    tally = ThreadCounters()
    tally.ran_one([0, 0, 0], 1500, 8000, 3)
    assert sums(tally) == {"run": (1, 6500)}


def test_several_requests_in_a_run():
    """One run, and each request's own waiting; none for those without an answer."""
    tally = ThreadCounters()
    tally.ran_joined(1900, 2000, 5000, 5600, rows=5, padding=3)
    tally.answered([[1000, 1100, 5200], [1500, 1600, 5500], [0, 0, 0]], 2000)
    assert sums(tally) == {
        "queue": (2, 200),
        "wait": (2, 900 + 400),
        "run": (1, 3000),
        "copy": (1, 600),
        "total": (2, 4200 + 4000),
    }
    assert (tally.rows, tally.padded_rows, tally.sizes, tally.paddings) == (5, 3, {5: 1}, {3: 1})
    assert tally.gather_ns == 100


def test_sizes_are_bounded(monkeypatch):
    """A worker that sends every size there is costs the broker no memory for each."""
    monkeypatch.setattr(tallies, "_MAX_SIZES", 4)
    tally = ThreadCounters()
    for rows in range(1, 1001):
        tally.ran_one([0, 0, 0], 1, 2, rows)
    assert sum(tally.sizes.values()) == 1000
    assert len(tally.sizes) < 4 + 12
    assert Histogram(tally.run).count == 1000
