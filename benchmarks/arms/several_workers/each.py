"""Any arm of one worker, once in each of several processes: workers that share nothing but the machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from benchmarks.harness.one_worker import resolve
from benchmarks.harness.timed import ArmWorker, ArmWorkers
from benchmarks.workloads import Workload


@contextmanager
def each(workload: Workload, workers: int, factory: str, options: dict[str, Any]) -> Iterator[ArmWorkers]:
    """`factory(workload, **options)` in each of `workers` processes."""
    if "path" in options:
        import_tensorflow()
    worker = ArmWorker(partial(resolve(factory), workload, **options), workload)
    yield ArmWorkers([worker] * workers)


def import_tensorflow() -> None:
    """Before the workers are forked, which then need it in memory once and not import it one after the other.

    It starts no session, so forking is safe; what is measured is the same, and the run saves minutes.
    """
    import tensorflow as tf  # noqa: F401
