"""Compares the processors with the threads that models run on."""

from __future__ import annotations

from typing import Any

from broker.counters.counted import counted
from broker.doctor.finding import Finding, ok, warning
from broker.doctor.target import Target
from broker.host.processors import quota, usable


def judge(cores: int, quota: float | None, models: dict[str, Any], workers: int) -> Finding:
    """Judge the number of cores. `quota`: the control group's limit in processors. `models`: as the broker describes
    them."""
    check = "cores"
    usable = cores if quota is None else min(cores, quota)
    found = f"{usable:g} for the broker and {counted(workers, 'worker')}"
    if quota is not None and quota < cores:
        found += f" (of {cores}, by a quota)"
    crowded = [text for name, info in models.items() if (text := _crowded(name, info, usable))]
    if crowded:
        names = " ".join(f"{name}=..." for name in models)
        return warning(
            check,
            f"{found}; {'; '.join(crowded)}",
            f"onesession tune {names}, or --set MODEL.intra_op_threads=1 --set "
            f"MODEL.max_concurrency={max(1, int(usable))}",
        )
    if usable < 2:
        return warning(
            check,
            f"{found}: broker and workers take turns",
            "two cores or more; with one, calls wait for each other",
        )
    return ok(check, found)


def _crowded(name: str, info: dict[str, Any], usable: float) -> str:
    """Describes the concurrent threads of a model if they exceed the cores. A light model runs on one thread, the
    intake's."""
    threads = info.get("intra_op_threads") or 1
    runs = 1 if info.get("light") else info.get("max_concurrency") or 1
    if threads * runs <= max(1.0, usable):
        return ""
    return f"{name} has {counted(runs, 'concurrent run')} on {counted(threads, 'thread')} each"


def check(target: Target) -> Finding:
    pid = target.broker_pid
    return judge(len(usable(pid or 0)), quota(pid), target.models, len(target.worker_pids))
