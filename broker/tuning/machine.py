"""What of the machine a result depends on, how much of it is ours, and how much others use meanwhile."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import os
import platform
import sys
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from broker.host.processors import cores, usable
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
_CGROUP = Path("/sys/fs/cgroup")

BUSY_SHARE = 0.15
"""Part of our processors that others may use while we measure before we call the machine busy."""


def describe() -> dict[str, Any]:
    """All that a result measured here depends on, as plain values. Does not import TensorFlow."""
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
    """Those this process may run on, and what a quota of its control group leaves of them."""
    visible = cores()
    quota = cpu_quota()
    return Processors(visible, visible if quota is None else max(1, min(visible, math.ceil(quota))))


def cpu_quota(root: Path = _CGROUP) -> float | None:
    """Processors' worth of time that the control group allows; None without a limit that can be read."""
    quotas = []
    for folder in _own_groups(root):
        try:
            quota, period = (folder / "cpu.max").read_text().split()
            quotas.append(int(quota) / int(period))
        except (OSError, ValueError):  # "max" is no limit
            continue
    return min(quotas, default=None)


def available_bytes(root: Path = _CGROUP) -> int:
    """Memory that could be used now: what the machine has, or less if the control group allows less."""
    amounts = [_memory_available()]
    for folder in _own_groups(root):
        try:
            limit = int((folder / "memory.max").read_text())
            amounts.append(limit - int((folder / "memory.current").read_text()))
        except (OSError, ValueError):
            continue
    return max(0, min(amounts))


def _own_groups(root: Path) -> Iterable[Path]:
    """Folders of this process's control group (version 2) and of those above it."""
    lines = _lines(Path("/proc/self/cgroup"))
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = root / own.lstrip("/")
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]


@cache
def cpu_model() -> str:
    lines = _lines(Path("/proc/cpuinfo"))
    # Hypervisors give short names to different processors: the numbers and abilities tell them apart.
    wanted = ("model name", "vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    told = " ".join(found[name] for name in wanted if name in found)
    flags = found.get("flags", found.get("Features", ""))
    return f"{told or platform.processor()} {hashlib.sha256(flags.encode()).hexdigest()[:8]}"


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
        and value != XLA_FLAGS  # which we set ourselves
    }


class Others:
    """What processes other than this one and `pids` use of our processors, from now on."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = list(pids)
        self._begun = monotonic()
        self._ours_before = self._ours()
        self._all_before = _busy_seconds()

    def share(self) -> float:
        """0 to 1; 0 where the machine does not tell."""
        elapsed = monotonic() - self._begun
        others = (_busy_seconds() - self._all_before) - (self._ours() - self._ours_before)
        return min(max(others / (elapsed * cores()), 0.0), 1.0) if elapsed > 0 else 0.0

    def _ours(self) -> float:
        return time.process_time() + sum(_cpu_seconds(pid) for pid in self._pids)


def _memory_available() -> int:
    for line in _lines(Path("/proc/meminfo")):
        name, _, amount = line.partition(":")
        if name == "MemAvailable":
            return int(amount.split()[0]) << 10
    return sys.maxsize


def _busy_seconds() -> float:
    """Time that our processors were used, or stolen by other virtual machines (proc_stat(5))."""
    ours = {f"cpu{number}" for number in usable()}
    ticks = 0
    for line in _lines(Path("/proc/stat")):
        name, *times = line.split()
        if name in ours:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, times[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def _cpu_seconds(pid: int) -> float:
    """Of all threads of a process, 0 once it has ended."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3)
    except OSError:
        return 0.0


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
