"""The properties of the machine on which a result depends, our share of it, and its use by other programs."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import os
import platform
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from broker.host.processors import cores, info, quota, usable
from broker.host.usage import busy_s, cpu_s
from broker.models.tf.import_logs import XLA_FLAGS
from broker.tuning.candidates import Processors
from worker_client.system.clock import monotonic

ONEDNN_VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
TENSORFLOW_PACKAGES = ("tensorflow", "tensorflow-cpu", "tensorflow-rocm", "tf-nightly", "tf-nightly-cpu")
_SHAPING = (
    *(
        "TF_NUM_",
        "TF_ENABLE_",
        "TF_DISABLE_",
        "TF_USE_",
        "TF_FORCE_",
        "TF_XLA_",
        "TF_ONEDNN_",
        "TF_MKL_",
        "TF_GPU_",
    ),
    *("TF_CPU_", "TF_CUDNN_", "TF_DETERMINISTIC_", "ONEDNN_", "DNNL_", "XLA_", "OMP_", "KMP_", "MKL_"),
    *("CUDA_VISIBLE_DEVICES", "LD_PRELOAD", "MALLOC_"),
)
"""Beginnings of the names of environment variables that change how TensorFlow runs."""

BUSY_SHARE = 0.15
"""The share of our processors that other programs may use during a measurement; above it, the machine counts as
busy."""


def describe() -> dict[str, Any]:
    """All properties on which a result measured here depends, as plain values. Does not import TensorFlow."""
    ours = processors()
    return {
        "cpu": cpu_model(),
        "architecture": platform.machine(),
        "processors": ours.visible,
        "usable_processors": ours.usable,
        "gpus": sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*")),
        "tensorflow": tensorflow_version(),
        "python": platform.python_version(),
        "environment": _environment(),
    }


def processors() -> Processors:
    """The processors that this process may run on, and the part that its control group's quota allows."""
    visible = cores()
    allowed = quota()
    return Processors(visible, visible if allowed is None else max(1, min(visible, math.ceil(allowed))))


@cache
def cpu_model() -> str:
    # Hypervisors give the same short name to different processors: numbers and features distinguish them.
    wanted = ("model name", "vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
    found = info()
    cpu = " ".join(found[name] for name in wanted if name in found)
    flags = found.get("flags", found.get("Features", ""))
    return f"{cpu or platform.processor()} {hashlib.sha256(flags.encode()).hexdigest()[:8]}"


@cache
def tensorflow_version() -> str:
    found = []
    for package in TENSORFLOW_PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found) or "unknown"


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(_SHAPING)
        and name != ONEDNN_VARIABLE
        and value != XLA_FLAGS  # set by the broker itself
    }


class OtherProcesses:
    """Measures how much processes other than this one and `pids` use our processors, from now on."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = list(pids)
        self._begun = monotonic()
        self._ours_before = self._ours()
        self._all_before = busy_s(usable())

    def share(self) -> float:
        """The share, 0 to 1; 0 if the machine does not report it."""
        elapsed = monotonic() - self._begun
        others = (busy_s(usable()) - self._all_before) - (self._ours() - self._ours_before)
        return min(max(others / (elapsed * cores()), 0.0), 1.0) if elapsed > 0 else 0.0

    def _ours(self) -> float:
        return time.process_time() + cpu_s(self._pids)
