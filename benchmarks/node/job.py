"""One arm of an engine's benchmark: a program in a network namespace of its own, and the memory of all its Pythons.

An engine's workers and the node's broker are not below the program in the tree of processes, so they are known by a
variable that all of them inherit.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.arm import ArmFailed
from benchmarks.node import namespace
from broker.host.usage import pss_bytes

ROOT = Path(__file__).parents[2]
_VARIABLE = "ONESESSION_BENCH_JOB"
_TIMEOUT_S = 300.0
_PAUSE_S = 0.25
_END_S = 15.0
_TENSORFLOW = b"libtensorflow_cc"


@dataclass(frozen=True)
class JobOutcome:
    """`report` is the program's last line. The peaks are of all Python processes at one moment."""

    report: dict[str, Any]
    peak_bytes: int
    peak_tensorflows: int


def run(engine: str, arguments: tuple[str, ...], place: Path) -> JobOutcome:
    """`place` is a new folder for what it writes. Raises ArmFailed."""
    if obstacle := namespace.obstacle():
        raise ArmFailed(obstacle)
    place.mkdir()
    program = (sys.executable, "-m", f"benchmarks.node.programs.{engine}", *arguments)
    mark = f"{_VARIABLE}={place}"
    own = {
        "XDG_RUNTIME_DIR": str(place),
        "TMPDIR": str(place),
        _VARIABLE: str(place),
        "PYTHONPATH": str(ROOT),
        "PYSPARK_PYTHON": sys.executable,
    }
    with (place / "out").open("wb") as out, (place / "err").open("wb") as err:
        process = subprocess.Popen(
            [*namespace.COMMAND, *program],
            cwd=ROOT,
            env={**os.environ, **own, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        try:
            peak, tensorflows = _watch(process, mark)
        finally:
            process.kill()
            process.wait()
            left = _end(mark)
    if process.returncode:
        raise ArmFailed(f"{engine} {arguments[0]}: {_tail(place / 'err')}")
    if left:
        raise ArmFailed(f"{engine} {arguments[0]}: {left} processes were left {_END_S:g} s after its end")
    return JobOutcome(json.loads((place / "out").read_text().splitlines()[-1]), peak, tensorflows)


def _watch(process: subprocess.Popen[bytes], mark: str) -> tuple[int, int]:
    peak, tensorflows, limit = 0, 0, time.monotonic() + _TIMEOUT_S
    while process.poll() is None and time.monotonic() < limit:
        pids = _pythons(mark)
        peak = max(peak, sum(map(_pss, pids)))
        tensorflows = max(tensorflows, sum(map(_has_tensorflow, pids)))
        time.sleep(_PAUSE_S)
    return peak, tensorflows


def _end(mark: str) -> int:
    """Wait until what it started has ended, as the node's broker does by itself; how many had to be killed."""
    limit = time.monotonic() + _END_S
    while (pids := _marked(mark)) and time.monotonic() < limit:
        time.sleep(0.1)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(pids)


def _marked(mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def _pythons(mark: str) -> list[int]:
    def is_python(pid: int) -> bool:
        try:
            return os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("python")
        except OSError:
            return False

    return [pid for pid in _marked(mark) if is_python(pid)]


def _pss(pid: int) -> int:
    try:
        return pss_bytes(pid)
    except OSError:
        return 0


def _has_tensorflow(pid: int) -> bool:
    try:
        return _TENSORFLOW in Path(f"/proc/{pid}/maps").read_bytes()
    except OSError:
        return False


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
