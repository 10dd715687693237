"""The callable at the other end of a pipe or a socket: the same that the broker in the comparison runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks import workloads
from benchmarks.arms.one_worker.session import ONE_THREAD, bare
from benchmarks.models.functions import echo_image
from broker.models.python.echo import echo


def answering(
    workload: str, path: str | None, threads: int = ONE_THREAD
) -> Callable[[np.ndarray], np.ndarray]:
    """The bare callable of the SavedModel at `path`, with so many intra-op threads; else the workload's function."""
    if path is not None:
        return bare(path, threads)
    return {"echo": echo, "image": echo_image, "head": workloads.head}[workload]
