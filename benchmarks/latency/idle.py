"""T9: the CPU use of a broker and its workers while there are no calls."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.figures import Figure, TargetResult
from benchmarks.harness.arm import Arm
from benchmarks.harness.host.cpu import context_switches, wait_until_quiet
from benchmarks.harness.rounds import running
from benchmarks.harness.run import MeasuredTarget
from benchmarks.latency.bench import LatencyBench
from benchmarks.sampling import LatencyWindow, Series, Spread
from broker.host.usage import cpu_ns

WORKERS = 8
CALLS = 200


def measure(bench: LatencyBench) -> TargetResult:
    with bench.broker("t9", {"mlp": bench.mlp}) as broker:
        assert broker.pid is not None
        arms = [_worker(number, broker.address) for number in range(WORKERS)]
        series = Series("workers", f"{WORKERS} workers in turn, before the silence")
        with running(arms, bench.plan.seed) as workers:
            for process in workers:  # an idle worker that has never called proves nothing
                taken_ns, checked = process.window(CALLS, 0)
                series.windows.append(LatencyWindow.of(taken_ns))
                series.checked += checked
            pids = [process.pid for process in workers]
            wait_until_quiet([broker.pid, *pids])
            bench.progress(0, 1, f"{bench.idle_seconds:g} s without a call")
            figures = _idle(broker.pid, pids, bench.idle_seconds)
    note = (
        f"Over {bench.idle_seconds:g} s, after {CALLS} calls of each worker. CPU time of all threads as the kernel "
        "counts it, in nanoseconds, not in ticks; per cent of one core."
    )
    return TargetResult(T9.name, T9.title, "us", {series.name: series}, figures, [note])


def _worker(number: int, address: str) -> Arm:
    return Arm(
        f"worker_{number}",
        f"worker {number}",
        "benchmarks.arms.one_worker.broker_call:predict",
        "mlp",
        {"address": address, "model": "mlp"},
    )


def _idle(broker: int, workers: Sequence[int], seconds: float) -> list[Figure]:
    def look() -> tuple[int, int, int, int, int]:
        switches = sum(context_switches(pid) for pid in workers)
        used = sum(cpu_ns(pid) for pid in workers)
        return time.monotonic_ns(), cpu_ns(broker), context_switches(broker), used, switches

    before = look()
    time.sleep(seconds)
    took, broker_ns, broker_switches, workers_ns, workers_switches = (
        now - then for now, then in zip(look(), before, strict=True)
    )

    def figure(label: str, value: float, unit: str, *bounds: float | None) -> Figure:
        return Figure(label, Spread.exact(value), unit, *(bounds or (None,)))

    return [
        figure("broker: CPU", 100 * broker_ns / took, "%", 0.1, 0.0),
        figure("broker: context switches", broker_switches / took * 1e9, "/s"),
        figure(f"all {len(workers)} workers: CPU", 100 * workers_ns / took, "%"),
        figure(f"all {len(workers)} workers: context switches", workers_switches / took * 1e9, "/s"),
    ]


T9 = MeasuredTarget("T9", f"CPU of an idle broker with {WORKERS} attached workers", measure)
