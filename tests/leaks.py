"""What a test may not leave behind: shared-memory names, child processes, threads, descriptors.

`Snapshot.take()` before the test, `find_leaks(before)` after it. What is there only because something takes a moment
to end is given a grace period; what is still there then is a leak. `contain()` cleans up what it can, so that one leaky
test does not make the next one fail, nor leave anything on the machine.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path
from typing import ClassVar

import psutil

GRACE_S = 2.0
_MAKER = re.compile(r"onesession\.[0-9a-f]{12}\.(\d+)\.\d+$")  # a broker's names carry its pid
SHM = Path("/dev/shm")
NAME_PREFIXES = ("onesession", "sem.onesession")

PR_SET_CHILD_SUBREAPER = 36


def prepare_process() -> None:
    """Make hidden leaks visible, and start the helpers that the interpreter starts once and keeps."""
    # Orphans (the worker of a killed broker) become our children instead of init's, so that they are found.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")
    # One process and one pipe per interpreter, for the first `spawn` of multiprocessing.
    resource_tracker.ensure_running()


@dataclass(frozen=True)
class Snapshot:
    """Everything of the four kinds that exists at one moment."""

    names: frozenset[str]
    processes: frozenset[psutil.Process]
    threads: frozenset[threading.Thread]
    descriptors: dict[int, str]

    shared: ClassVar[bool] = False
    """Other processes of the same run make names as well (tests/side_by_side.py): only names that a living process of
    our own tree has made are known to be ours."""

    @classmethod
    def take(cls) -> Snapshot:
        # Only direct children: a grandchild belongs to its parent, which may be a fixture's broker that outlives the
        # test and replaces its own children as it likes. An orphan comes to us.
        return cls(
            names=frozenset(n for n in os.listdir(SHM) if n.startswith(NAME_PREFIXES)),
            processes=frozenset(psutil.Process().children()),
            threads=frozenset(t for t in threading.enumerate() if not _foreign(t)),
            descriptors=_descriptors(),
        )

    def including(self, leaks: Leaks) -> Snapshot:
        """This snapshot, as if it had held `leaks` already."""
        return Snapshot(
            names=self.names.union(leaks.names),
            processes=self.processes.union(leaks.processes),
            threads=self.threads.union(leaks.threads),
            descriptors=self.descriptors | leaks.descriptors,
        )


@dataclass
class Leaks:
    """The objects in the second snapshot that are not in the first."""

    names: list[str] = field(default_factory=list)
    processes: list[psutil.Process] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    descriptors: dict[int, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.names or self.processes or self.threads or self.descriptors)

    def report(self) -> str:
        lines = [f"shared-memory name {SHM / name}" for name in self.names]
        lines += [f"process {_describe_process(p)}" for p in self.processes]
        lines += [f"thread {_describe_thread(t)}" for t in self.threads]
        lines += [f"descriptor {fd} -> {target}" for fd, target in self.descriptors.items()]
        return "left behind:\n" + "\n".join(f"  {line}" for line in lines)

    def contain(self) -> None:
        """Kill the processes and unlink the names; a thread or a descriptor cannot be taken from its owner."""
        victims = [d for p in self.processes for d in (p, *_descendants(p))]
        for process in victims:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        psutil.wait_procs(victims, timeout=GRACE_S)
        for name in self.names:
            (SHM / name).unlink(missing_ok=True)


def find_leaks(before: Snapshot, grace_s: float | None = None) -> Leaks:
    """What is there now and was not `before`, after a grace of `grace_s` (default GRACE_S) for things that end."""
    leaks = _difference(before, Snapshot.take())
    if not leaks:
        return leaks
    # Objects in reference cycles close their descriptors when they are collected; they are garbage, not leaks.
    # Collected in each round: some become garbage only when the last thread that held them has ended.
    gc.collect()
    deadline = time.monotonic() + (GRACE_S if grace_s is None else grace_s)
    while (leaks := _difference(before, Snapshot.take())) and time.monotonic() < deadline:
        time.sleep(0.02)
        gc.collect()
    return leaks


def unjudged(before: Snapshot) -> list[str]:
    """New names of which only the end of the run can tell whether they are leaks: their makers have ended."""
    if not Snapshot.shared:
        return []
    return sorted(n for n in Snapshot.take().names - before.names if not psutil.pid_exists(_maker_of(n)))


def new_names(before: Snapshot) -> list[str]:
    """Names that exist now, did not exist `before`, and do not belong to another program."""
    return _our_names(Snapshot.take().names - before.names)


def _difference(before: Snapshot, after: Snapshot) -> Leaks:
    return Leaks(
        names=_our_names(after.names - before.names),
        processes=sorted(
            (p for p in after.processes - before.processes if not _reaped(p)), key=lambda p: p.pid
        ),
        threads=sorted(after.threads - before.threads, key=lambda t: t.name),
        descriptors=_new_descriptors(before.descriptors, after.descriptors),
    )


def _descriptors() -> dict[int, str]:
    """Each open descriptor's target, as /proc names it: a path, `socket:[inode]`, `anon_inode:[eventpoll]`."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            # Of an inherited one the name may go meanwhile.
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}").removesuffix(" (deleted)")
        except FileNotFoundError:  # the descriptor that listdir itself had open
            continue
    return found


def _new_descriptors(before: dict[int, str], after: dict[int, str]) -> dict[int, str]:
    # By target and count, not by number: closing one descriptor and opening another is no leak if both are the same.
    allowed = Counter(before.values())
    new = {}
    for fd, target in sorted(after.items()):
        if before.get(fd) == target:
            allowed[target] -= 1
    for fd, target in sorted(after.items()):
        if before.get(fd) == target:
            continue
        if allowed[target] > 0:
            allowed[target] -= 1
        else:
            new[fd] = target
    return new


def _reaped(process: psutil.Process) -> bool:
    """Whether this child has ended; collects it then, since the parent of an orphan no longer can."""
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return False
        os.waitpid(process.pid, os.WNOHANG)
    except (psutil.NoSuchProcess, ChildProcessError):
        pass
    return True


def _foreign(thread: threading.Thread) -> bool:
    """A thread of TensorFlow's pool that once ran Python (tf.numpy_function): the pool lives as long as the process."""
    return isinstance(thread, threading._DummyThread)


def _our_names(names: frozenset[str]) -> list[str]:
    if not names:
        return []
    me = psutil.Process()
    ours = {me.pid, *(p.pid for p in me.children(recursive=True))}
    if Snapshot.shared:
        return sorted(name for name in names if _maker_of(name) in ours)
    return sorted(name for name in names if not _used_by_strangers(name, ours))


def _maker_of(name: str) -> int:
    """The pid of the process that made the name; -1 if the name does not contain it."""
    maker = _MAKER.search(name)
    return int(maker[1]) if maker else -1


def _used_by_strangers(name: str, ours: set[int]) -> bool:
    """Whether a process outside our tree made `name` or has it mapped: then another program, or test run, owns it."""
    maker = _maker_of(name)
    if maker not in ours and psutil.pid_exists(maker):
        return True
    try:
        inode = (SHM / name).stat().st_ino
    except FileNotFoundError:  # its owner has just removed it
        return True
    return any(_maps(pid, inode) for pid in psutil.pids() if pid not in ours)


def _maps(pid: int, inode: int) -> bool:
    # Not by name: sem_open() makes a semaphore under another name and links it, so its maker maps that other name.
    try:
        maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:  # ended meanwhile, or another user's
        return False
    return any(str(SHM) in line and line.split()[4] == str(inode) for line in maps)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _describe_process(process: psutil.Process) -> str:
    try:
        return f"{process.pid}: {' '.join(process.cmdline())[:200]}"
    except psutil.NoSuchProcess:
        return f"{process.pid} (ended just now)"


def _describe_thread(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    where = f", at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}" if frame else ""
    return f"{thread.name!r}{' (daemon)' if thread.daemon else ''}{where}"
