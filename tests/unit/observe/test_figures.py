"""What is told of a time, from the statistics at its beginning and end."""

from __future__ import annotations

from typing import Any

import pytest

from broker.counters.histogram import Histogram
from broker.counters.thread_counters import STAGES
from broker.observe import formatting as wording
from broker.observe.summary import figures


def statistics(requests: int, time: float, pid: int = 1, **signature: Any) -> dict[str, Any]:
    """Of a broker that began at 100 and has answered so many requests of one row, two a run, each in 1000 ns."""
    histogram = Histogram()
    histogram.counts[20] = requests
    histogram.sum_ns = 1000 * requests
    counters = {"rows": requests, "runs": requests // 2, "padded_rows": 0, "output_bytes": 8 * requests}
    return {
        "pid": pid,
        "time": time,
        "uptime_seconds": time - 100,
        "signatures": [
            {
                "model": "m",
                "version": 1,
                "signature": "s",
                "light": True,
                "why": "measured",
                "inline_runs": 0,
                "stateful": "",
                "requests": requests,
                **counters,
                "joined_bytes": 2 * requests,
                "errors": {"ModelFailed": requests // 10},
                "sizes": [[2, requests // 2]],
                "paddings": [],
                "stages": {stage: histogram.to_message() for stage in STAGES},
                **signature,
            }
        ],
    }


def test_since_the_start():
    """Of one answer alone."""
    (found,) = figures(statistics(40, 120.0))
    assert (found.requests, found.per_second, found.rows_a_run, found.failed) == (40, 2.0, 2.0, 4)
    assert found.to_message()["copied_bytes_per_request"] == 10


def test_between_two_moments():
    """Only what came in between."""
    (found,) = figures(statistics(100, 125.0), statistics(40, 120.0))
    assert (found.requests, found.per_second, found.seconds) == (60, 12.0, 5.0)
    assert found.sizes == {2: 30}
    assert found.errors == {"ModelFailed": 6}
    assert found.stages["total"].count == 60
    assert found.stages["total"].mean_ns == 1000


def test_another_broker_begins_anew():
    """After a restart, counters are smaller; what there is now is what came since."""
    (found,) = figures(statistics(10, 125.0, pid=2), statistics(40, 120.0))
    assert found.requests == 10


def test_what_is_new_counts_from_nothing():
    """A version that was loaded meanwhile; requests that named no model are no model's."""
    now = statistics(30, 125.0, version=2)
    now["signatures"] += statistics(3, 125.0, model="")["signatures"]
    (found,) = figures(now, statistics(40, 120.0))
    assert (found.version, found.requests) == (2, 30)


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "-"),
        (7.25, "7.2us"),
        (99.7, "100us"),
        (999.7, "1.0ms"),
        (12_345, "12ms"),
        (1.5e6, "1.5s"),
        (9e7, "90s"),
    ],
)
def test_durations(us: float, text: str):
    assert wording.duration(us) == text
    assert len(text) <= 5


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7.52, "7.5"), (950, "950"), (9999, "9999"), (12_345, "12.3k"), (2e7, "20M")],
)
def test_numbers(value: float, text: str):
    assert wording.number(value) == text


def test_sizes_and_ages():
    assert [wording.size(n) for n in (0, 512, 3500, 1 << 30)] == ["0 B", "512 B", "3.4 KiB", "1.0 GiB"]
    assert [wording.age(s) for s in (12, 180, 7300, 200_000)] == ["12 s", "3 min", "2 h", "2 d"]


def test_sparklines():
    """The last values, from the bottom to the largest."""
    assert wording.sparkline([0, 1, 2, 4], 10) == "▁▃▅█"
    assert wording.sparkline([9, 0, 0], 2) == "▁▁"
    assert wording.sparkline([], 5) == ""
