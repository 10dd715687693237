"""T7: rows of a heavy model, whose settings decide more than its transport: the broker's own against those by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks.arms.one_worker.session import DEFAULT_THREADS, ONE_THREAD
from benchmarks.figures import Figure, TargetResult
from benchmarks.harness.arm import Arm
from benchmarks.harness.interleaved import run_interleaved
from benchmarks.harness.run import MeasuredTarget
from benchmarks.rates import RateSeries, beside_best, best, by_cpu, ratio
from benchmarks.throughput.bench import HEADLINE, ThroughputBench
from benchmarks.throughput.broker_facts import batches, settings
from broker.host.processors import cores

WINDOWS = 1.5
"""Its windows are this many times longer than others: a call takes tens of milliseconds."""
ROUNDS = 2
"""It has this many times more rounds than others, since a difference of a few per cent counts."""

BY_HAND: list[dict[str, int]] = [
    {"intra_op_threads": 1, "max_concurrency": cores(), "max_batch_size": 1},
    {"intra_op_threads": 1, "max_concurrency": cores(), "max_batch_size": 4},
    {"intra_op_threads": 1, "max_concurrency": cores()},
    {"intra_op_threads": cores(), "max_concurrency": 1},
]
"""Settings that an expert would try on this machine: one run per core, or all cores for one run."""


def measure(bench: ThroughputBench) -> TargetResult:
    bench.tune(mobilenet=bench.mobilenet)
    arms = list(_arms(bench))
    series = run_interleaved(arms, bench.longer(WINDOWS, ROUNDS), bench.progress)
    figures = list(_figures(series, list(_by_hand(series))))
    broker = series["broker"]
    notes = [
        f"The best by hand: {best(*_by_hand(series)).label}. Sessions of the workers: with TensorFlow's defaults.",
        "In each half of the rounds the broker is compared with what was best by hand in the other half.",
        f"Every request is one row of 602 kB. The broker's own settings: {settings(broker, 'mobilenet')}.",
        *(f"{one.label}: {batches(one.batch_rows)}" for one in (broker, *_by_hand(series))),
    ]
    return TargetResult(T7.name, T7.title, "ms", series, figures, notes)


def _arms(bench: ThroughputBench) -> Iterator[Arm]:
    yield _broker(bench, "broker", "broker, its own settings", {}, tune="remembered")
    yield _sessions(bench, "sessions", "in process: Session.run", DEFAULT_THREADS)
    if not bench.quick:
        yield _sessions(bench, "sessions_one_thread", "in process: Session.run, 1 thread", ONE_THREAD)
    for number, fixed in enumerate(BY_HAND[:1] if bench.quick else BY_HAND):
        yield _broker(bench, f"by_hand_{number + 1}", f"broker, {_spoken(fixed)}", fixed)


def _broker(bench: ThroughputBench, name: str, label: str, fixed: dict[str, int], **more: str) -> Arm:
    options = {
        "workers": bench.headline,
        "directory": str(bench.directory),
        "models": {"mobilenet": {"source": bench.mobilenet, **fixed}},
        "model": "mobilenet",
        **more,
    }
    facts = {"workers": bench.headline, "fixed": fixed}
    return Arm(
        name, label, "benchmarks.arms.several_workers.brokered:brokered", "mobilenet", options, facts=facts
    )


def _sessions(bench: ThroughputBench, name: str, label: str, threads: int) -> Arm:
    of_each = {"path": bench.mobilenet, "threads": threads}
    options = {
        "workers": bench.headline,
        "factory": "benchmarks.arms.one_worker.session:session_run",
        "options": of_each,
    }
    return Arm(
        name,
        label,
        "benchmarks.arms.several_workers.each:each",
        "mobilenet",
        options,
        facts={"workers": bench.headline},
    )


def _by_hand(series: Mapping[str, RateSeries]) -> Iterator[RateSeries]:
    return (one for name, one in series.items() if name.startswith("by_hand"))


def _figures(series: Mapping[str, RateSeries], by_hand: list[RateSeries]) -> Iterator[Figure]:
    broker, sessions = series["broker"], series["sessions"]
    by_hand_best = best(*by_hand)
    yield Figure("broker / sessions of the workers", ratio(broker, sessions), "x", 1.7, at_least=True)
    yield Figure("broker / the best by hand", beside_best(broker, *by_hand), "x", 0.95, 1.0, at_least=True)
    cpu = ratio(sessions, broker, by_cpu)
    yield Figure("CPU of sessions of the workers / broker", cpu, "x", at_least=True)
    yield Figure(
        "the best by hand / sessions of the workers", ratio(by_hand_best, sessions), "x", at_least=True
    )


def _spoken(fixed: Mapping[str, int]) -> str:
    threads, runs = fixed["intra_op_threads"], fixed["max_concurrency"]
    rows = fixed.get("max_batch_size")
    return f"{threads} thread{'s' * (threads > 1)}, {runs} side by side" + (f", batch {rows}" if rows else "")


T7 = MeasuredTarget(
    "T7", f"mobilenet, rows/s of one-row requests; the targets are for {HEADLINE} workers", measure
)
