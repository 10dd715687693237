"""Any arm of several workers that do something else between their calls, as an app does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from benchmarks.harness.one_worker import resolve
from benchmarks.harness.timed import ArmWorkers
from benchmarks.workloads import Workload


@contextmanager
def paced(
    workload: Workload, factory: str, options: dict[str, Any], pause_s: float, work_s: float
) -> Iterator[ArmWorkers]:
    """The workers of `factory(workload, **options)`; each pauses and computes before each call."""
    with resolve(factory)(workload, **options) as arm:
        workers = [replace(worker, pause_s=pause_s, work_s=work_s) for worker in arm.workers]
        yield replace(arm, workers=workers)
