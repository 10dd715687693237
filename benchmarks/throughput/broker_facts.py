"""Facts about the broker of an arm, as text: which batches it formed, and which settings it had measured."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.rates import RateSeries

_SHARE = 0.02  # rarer sizes are only in the JSON
_SETTINGS = ("intra_op_threads", "max_concurrency", "max_batch_size", "caller_thread", "onednn")


def batches(batch_rows: Mapping[int, int]) -> str:
    """`3.1 rows a run; 1 row 12%, 2 rows 30%, ...` of the runs."""
    runs = sum(batch_rows.values())
    if not runs:
        return "no runs were counted"
    rows = sum(size * times for size, times in batch_rows.items())
    common = [
        f"{size} {'row' if size == 1 else 'rows'} {times / runs:.0%}"
        for size, times in sorted(batch_rows.items())
        if times >= _SHARE * runs
    ]
    return f"{rows / runs:.1f} rows a run; {', '.join(common)}"


def settings(series: RateSeries, model: str) -> str:
    """`intra_op_threads 1, max_concurrency 2, ...`"""
    facts = series.facts["models"][model]
    return ", ".join(f"{name} {facts[name]}" for name in _SETTINGS if name in facts)
