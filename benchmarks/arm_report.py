"""One arm in the report: its row of the table and its entry in the JSON, for arms of one worker and of several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.figures import NS_PER
from benchmarks.rates import RateSeries, RateWindow, by_beside, by_cpu, by_longest, by_others, by_p50, by_p99
from benchmarks.sampling import LatencyWindow, Series, Spread

Cells = dict[str, str]
"""Heading -> text."""

_FACTS = {
    "workers": ("workers", ""),
    "threads": ("threads", ""),
    "memory_mb_median": ("PSS, MB", ",.0f"),
    "start_s_median": ("start, s", ".1f"),
}
"""Fact of an arm -> its heading, and how it is written."""


def table(title: str, unit: str, arms: Mapping[str, Series] | Mapping[str, RateSeries]) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    made.add_column("arm", no_wrap=True)
    rows = [(series.label, _cells(series, unit)) for series in arms.values()]
    headings = list(dict.fromkeys(heading for _, cells in rows for heading, text in cells.items() if text))
    for heading in headings:
        made.add_column(heading, justify="right", no_wrap=True)
    for label, cells in rows:
        made.add_row(label, *(cells.get(heading, "") for heading in headings))
    return made


def to_json(series: Series | RateSeries) -> dict[str, Any]:
    return _rates(series) if isinstance(series, RateSeries) else _times(series)


def _cells(series: Series | RateSeries, unit: str) -> Cells:
    return _rate_cells(series, unit) if isinstance(series, RateSeries) else _time_cells(series, unit)


# --- one worker: how long a call takes ---


def _time_cells(series: Series, unit: str) -> Cells:
    scale, p50 = NS_PER[unit], series.p50_ns
    return {
        f"p50, {unit}": f"{p50.median / scale:.1f}",
        "lowest to highest": f"{p50.low / scale:.1f} to {p50.high / scale:.1f}",
        "p90": f"{series.p90_ns.median / scale:.1f}",
        "p99": f"{series.p99_ns.median / scale:.1f}",
        "answers checked": f"{series.checked:,}",
    }


def _times(series: Series) -> dict[str, Any]:
    return {
        "label": series.label,
        "p50_us": _us(series.p50_ns),
        "p90_us": _us(series.p90_ns),
        "p99_us": _us(series.p99_ns),
        "samples": series.samples,
        "answers_checked": series.checked,
        "windows": [_window(window) for window in series.windows],
    }


def _window(window: LatencyWindow) -> dict[str, Any]:
    return {
        "p50_us": window.p50_ns / 1e3,
        "p90_us": window.p90_ns / 1e3,
        "p99_us": window.p99_ns / 1e3,
        "longest_us": window.longest_ns / 1e3,
        "samples": window.samples,
    }


def _us(spread: Spread) -> dict[str, float]:
    return _spread(Spread(*(ns / 1e3 for ns in (spread.median, spread.low, spread.high))))


# --- several workers: how many calls in a second ---


def _rate_cells(series: RateSeries, unit: str) -> Cells:
    scale, per_s = NS_PER[unit], series.per_s
    beside = series.of(by_beside).median
    return {
        **{
            heading: f"{series.facts[fact]:{how}}"
            for fact, (heading, how) in _FACTS.items()
            if fact in series.facts
        },
        "answers/s": f"{per_s.median:,.0f}",
        "low to high": f"{per_s.low:,.0f} to {per_s.high:,.0f}",
        "stable": f"{'after' if series.stable else 'not in'} {len(series.windows)}",
        f"p50, {unit}": f"{series.of(by_p50).median / scale:,.1f}",
        "p99": f"{series.of(by_p99).median / scale:,.1f}",
        "CPU s/1,000": f"{series.of(by_cpu).median:.3g}",
        "others": f"{series.of(by_others).median:.1f}",
        "beside/s": f"{beside:,.0f}" if beside else "",
    }


def _rates(series: RateSeries) -> dict[str, Any]:
    return {
        "label": series.label,
        **series.facts,
        "per_s": _spread(series.per_s),
        "stable": series.stable,
        "p50_us": _us(series.of(by_p50)),
        "p99_us": _us(series.of(by_p99)),
        "longest_us": _us(series.of(by_longest)),
        "cpu_s_per_1000": _spread(series.of(by_cpu)),
        "beside_per_s": _spread(series.of(by_beside)),
        "batch_rows": {str(rows): runs for rows, runs in sorted(series.batch_rows.items())},
        "samples": sum(window.latency.samples for window in series.windows),
        "answers_checked": series.checked,
        "windows": [_rate_window(window) for window in series.windows],
    }


def _rate_window(window: RateWindow) -> dict[str, Any]:
    return {
        "per_s": window.per_s,
        "cpu_s_per_1000": window.cpu_s_per_1000,
        "beside_per_s": window.beside_per_s,
        "other_cores": window.others,
        **_window(window.latency),
    }


def _spread(spread: Spread) -> dict[str, float]:
    return {"median": spread.median, "low": spread.low, "high": spread.high}
