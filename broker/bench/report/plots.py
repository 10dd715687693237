"""Plots of a SweepOutcome as PNG files, with matplotlib, which the extra `bench` brings."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from broker.bench.load.samples import STAGES
from broker.bench.outcome import MeasuredCase, SweepOutcome
from broker.bench.report.rows import BROKER
from broker.counters.counted import counted
from worker_client.wire.errors import BrokerError

MISSING = 'plots need matplotlib: pip install "onesession[bench]", or leave them out with --no-plots'
_WIDTH, _HEIGHT, _DPI = 5.2, 3.8, 120
_QUANTILES = 1 - np.logspace(0, -4, 200)


def available() -> bool:
    return find_spec("matplotlib") is not None


def write(outcome: SweepOutcome, folder: Path) -> list[str]:
    """Their names, in `folder`. Raises BrokerError without matplotlib."""
    if not available():
        raise BrokerError(MISSING)
    import matplotlib as mpl

    mpl.use("agg")  # a file, whatever display there is
    made = {
        "throughput.png": _against_workers(outcome, "requests/s", [("", lambda each: each.per_s)]),
        "latency.png": _against_workers(
            outcome,
            "latency, us",
            [("p50", lambda each: each.us(50)), ("p99", lambda each: each.us(99))],
        ),
        "percentiles.png": _percentiles(outcome),
        "stages.png": _stages(outcome),
    }
    written = []
    for name, figure in made.items():
        if figure is not None:
            figure.savefig(folder / name, dpi=_DPI)
            written.append(name)
    return written


def _against_workers(outcome: SweepOutcome, label: str, picks: list[tuple[str, Any]]) -> Any:
    """A picture for each number of rows, a line for each arm and load."""
    figure, axes = _figure(sorted({case.rows for case in outcome.cases}))
    for rows, axis in axes.items():
        for name, each in _lines(outcome, rows).items():
            for (what, pick), style in zip(picks, ("-o", "--o")):
                workers = [one.case.workers for one in each]
                axis.plot(
                    workers, [pick(one) for one in each], style, label=f"{name} {what}".strip(), markersize=3
                )
        axis.set(xlabel="workers", ylabel=label, title=_rows(rows))
        axis.set_xticks(sorted({case.workers for case in outcome.cases}))
        axis.set_ylim(bottom=0) if len(picks) == 1 else axis.set_yscale("log")
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    return figure


def _percentiles(outcome: SweepOutcome) -> Any:
    """Latency over the share of requests, with the largest number of workers, by nines as in HdrHistogram's plots."""
    most = max(case.workers for case in outcome.cases)
    figure, axes = _figure(sorted({case.rows for case in outcome.cases}))
    for rows, axis in axes.items():
        for each in outcome.measured:
            if each.case.rows == rows and each.case.workers == most and len(each.window.taken_ns):
                latency = np.quantile(each.window.taken_ns, _QUANTILES) / 1000
                axis.plot(1 / (1 - _QUANTILES), latency, label=_name(outcome, each))
        axis.set(xlabel="percentile", ylabel="latency, us", title=f"{counted(most, 'worker')}, {_rows(rows)}")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xticks([1, 2, 10, 100, 1000, 10000], ["0", "50", "90", "99", "99.9", "99.99"])
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    return figure


def _stages(outcome: SweepOutcome) -> Any:
    """Stacked: where the time of a call through the broker goes."""
    found = [each for each in outcome.measured if each.arm == BROKER and each.window.stages_us]
    if not found:
        return None
    figure, axes = _figure([0], width=max(_WIDTH, 1.5 + 0.6 * len(found)))
    axis = axes[0]
    names = [f"{each.case.workers}w {each.case.rows or '-'}r{_load(outcome, each)}" for each in found]
    bottom = np.zeros(len(found))
    for stage in STAGES:
        heights = np.array([each.window.stages_us[stage] for each in found])
        if heights.any():
            axis.bar(names, heights, bottom=bottom, label=stage.replace("_", "-"))
            bottom += heights
    axis.set(ylabel="mean, us", title="where the time of a call goes")
    axis.tick_params(axis="x", labelsize=7, rotation=30)
    axis.legend(fontsize=7)
    return figure


def _figure(panels: list[int], width: float = _WIDTH) -> tuple[Any, dict[int, Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * len(panels), _HEIGHT), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    return figure, dict(zip(panels, axes))


def _lines(outcome: SweepOutcome, rows: int) -> dict[str, list[MeasuredCase]]:
    found: dict[str, list[MeasuredCase]] = {}
    for each in outcome.measured:
        if each.case.rows == rows:
            found.setdefault(_name(outcome, each), []).append(each)
    return found


def _name(outcome: SweepOutcome, each: MeasuredCase) -> str:
    return each.label + _load(outcome, each)


def _load(outcome: SweepOutcome, each: MeasuredCase) -> str:
    """Only where there are several."""
    return f", {each.case.load}" if len({case.load for case in outcome.cases}) > 1 else ""


def _rows(rows: int) -> str:
    return counted(rows, "row") if rows else "one request"
