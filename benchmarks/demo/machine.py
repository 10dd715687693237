"""The machine as the demo found it, and must leave it: no process, no name in /dev/shm, no file."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil

from benchmarks.demo.broker import traces

SHM = Path("/dev/shm")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS = 10.0  # a broker that is stopped while it loads its models looks up only afterwards
_PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Leftovers:
    """What was left behind."""

    processes: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.processes or self.names or self.files)

    def __str__(self) -> str:
        kinds = {"process": self.processes, "/dev/shm": self.names, "file": self.files}
        return "; ".join(f"{kind}: {', '.join(found)}" for kind, found in kinds.items() if found)


class Workspace:
    """The demo's temporary directory and the name of its broker: all that it may touch."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="onesession-demo-"))
        # The directory's own name: no other demo on this machine has it.
        self.broker_name = self.directory.name.removeprefix("onesession-")
        self._files, self._prefix = traces(self.broker_name)

    def clear(self) -> Leftovers:
        """Remove the directory; say what else was left, having put it right as far as that goes."""
        found = Leftovers(_end_processes(), self._names())
        shutil.rmtree(self.directory, ignore_errors=True)
        found.files = [os.fspath(path) for path in (self.directory, *self._files) if path.exists()]
        for name in found.names:
            (SHM / name).unlink(missing_ok=True)
        return found

    def _names(self) -> list[str]:
        stems = (self._prefix, f"sem.{self._prefix}")
        return [name for name in os.listdir(SHM) if name.startswith(stems)]


def adopt_orphans() -> None:
    """Have processes whose parent dies become ours, so that none of ours can get lost."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


@contextmanager
def one_interrupt() -> Iterator[None]:
    """The first SIGINT, SIGTERM or SIGHUP raises KeyboardInterrupt; later ones do not disturb what it has begun."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        ignore_interrupts()
        os.write(2, b"\nInterrupted; stopping everything in order ...\n")  # a signal may interrupt a print
        raise KeyboardInterrupt

    before = {number: signal.signal(number, on_signal) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_interrupts() -> None:
    """Ignore signals while everything is stopped, in bounded time. (By a handler: children would inherit SIG_IGN.)"""
    for number in STOP_SIGNALS:
        signal.signal(number, lambda _number, _frame: None)


def _end_processes() -> list[str]:
    """End all processes below this one; returns the command lines of those that had not ended by themselves."""
    _ended, left = psutil.wait_procs(psutil.Process().children(recursive=True), timeout=GRACE_SECONDS)
    found = [_command(process) for process in left]
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        for process in left:
            try:
                ask(process)
            except psutil.NoSuchProcess:
                pass
        _ended, left = psutil.wait_procs(left, timeout=GRACE_SECONDS)
    return found


def _command(process: psutil.Process) -> str:
    try:
        return f"{process.pid} ({' '.join(process.cmdline())[:60]})"
    except psutil.Error:
        return str(process.pid)
