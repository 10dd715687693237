"""T3: requests of one row to a small model, from 1 to 16 workers, against every other way to answer so many of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmarks.figures import Figure, TargetResult
from benchmarks.harness.arm import Arm
from benchmarks.harness.interleaved import run_interleaved
from benchmarks.harness.run import MeasuredTarget
from benchmarks.rates import RateSeries, beside_best, by_cpu, ratio
from benchmarks.throughput.bench import HEADLINE, ThroughputBench
from benchmarks.throughput.broker_facts import batches, settings
from benchmarks.throughput.contenders import KINDS, OWN, ModelPlace, arm, missing, name

COMPARED = ("broker_own", "broker", "session_run", "unix_sockets", "unix_sockets_batching")
"""The arms that the targets compare: in one interleaved run, so that they meet the same conditions."""
ASIDE = tuple(kind for kind in KINDS if kind not in COMPARED)
SOCKETS = "raw Unix sockets"
QUICK_ASIDE = tuple(kind for kind in ASIDE if kind not in ("bare_callable", "pool_apply_async"))
"""The others, without arms that consist of the same parts as another arm."""


def measure(bench: ThroughputBench) -> TargetResult:
    place = ModelPlace(bench.mlp, str(bench.directory))
    bench.tune(mlp=bench.mlp)
    series: dict[str, RateSeries] = {}
    for workers in bench.workers:
        headline = workers == bench.headline
        all_threads = headline and not bench.quick
        compared = list(arms(COMPARED, workers, place, all_threads))
        aside = list(arms(QUICK_ASIDE if bench.quick else ASIDE, workers, place, all_threads))
        series |= run_interleaved(compared, bench.pace if headline else bench.sweep, bench.progress)
        series |= run_interleaved(
            aside, bench.aside if headline else bench.sweep, bench.progress, together=False
        )
    skipped = {KINDS[kind].label: why for kind in KINDS if (why := missing(kind))}
    figures = [*_headline(series, bench.headline), *_sweep(series, bench)]
    return TargetResult(T3.name, T3.title, "us", series, figures, _notes(series, bench), skipped)


def arms(kinds: Iterable[str], workers: int, place: ModelPlace, all_threads: bool) -> Iterator[Arm]:
    """Each kind with both settings of threads, or with the one that its users have."""
    for kind in kinds:
        chosen = KINDS[kind]
        for threads in chosen.variants if all_threads else (chosen.threads,):
            if missing(kind) is None:
                yield arm(kind, threads, workers, place)


def _headline(series: Mapping[str, RateSeries], workers: int) -> Iterator[Figure]:
    """The figures that have targets, and the same with equal numbers of threads."""
    own, sessions = series[name("broker_own", OWN, workers)], series[name("session_run", "default", workers)]
    yield _over(own, [sessions], "Session.run", 8.0)
    yield _over(series[name("broker", "one", workers)], _sockets(series, workers, "one"), SOCKETS, 1.1, 1.4)
    yield _over(own, _sockets(series, workers, "one"), SOCKETS)
    cpu = ratio(sessions, own, by_cpu)
    yield Figure(f"{workers:2} workers: CPU of Session.run / broker, own", cpu, "x", at_least=True)
    if name("broker", "default", workers) in series:
        default = series[name("broker", "default", workers)]
        yield _over(default, [sessions], "Session.run")
        yield _over(default, _sockets(series, workers, "default"), SOCKETS)


def _sweep(series: Mapping[str, RateSeries], bench: ThroughputBench) -> Iterator[Figure]:
    for workers in bench.workers:
        if workers != bench.headline:
            sessions = series[name("session_run", "default", workers)]
            yield _over(series[name("broker_own", OWN, workers)], [sessions], "Session.run")
            yield _over(series[name("broker", "one", workers)], _sockets(series, workers, "one"), SOCKETS)


def _sockets(series: Mapping[str, RateSeries], workers: int, threads: str) -> list[RateSeries]:
    """Two: they run requests one by one, and in batches."""
    return [series[name(kind, threads, workers)] for kind in ("unix_sockets", "unix_sockets_batching")]


def _over(
    ours: RateSeries,
    others: Sequence[RateSeries],
    what: str,
    target: float | None = None,
    stretch: float | None = None,
) -> Figure:
    label = f"{ours.facts['workers']:2} workers: broker, {ours.facts['threads']} / {what}"
    return Figure(label, beside_best(ours, *others), "x", target, stretch, at_least=True)


def _notes(series: Mapping[str, RateSeries], bench: ThroughputBench) -> list[str]:
    brokers = [series[name("broker_own", OWN, workers)] for workers in bench.workers]
    return [
        f"threads: intra-op threads of every session. The broker's own settings: {settings(brokers[0], 'mlp')}.",
        "others: cores that something else kept busy. CPU for an answer suffers less from it than answers/s do.",
        "Against raw Unix sockets: one by one or in batches, whichever was better in the other half of the rounds.",
        "Pool and Queue keep several requests in flight for each process: their p50 is what one of these takes.",
        *(f"{broker.facts['workers']:2} workers: {batches(broker.batch_rows)}" for broker in brokers),
    ]


T3 = MeasuredTarget("T3", f"mlp, one row, closed loop; the targets are for {HEADLINE} workers", measure)
