"""Descriptors 0, 1 and 2, which a daemon may have closed: whatever is opened next then gets such a number, and a
library that writes an error to descriptor 2 writes it there.

Programs of ours open /dev/null in place of what is missing (`open_missing`). Where we are a guest in somebody else's
process, what we open for another process to inherit gets a number above 2 (`pipe`, `above_standard`), and that process
is given /dev/null (`process/spawn.py`).
"""

from __future__ import annotations

import fcntl
import os
import sys

from worker_client.system.descriptor import above_standard

STANDARD = (0, 1, 2)


def open_missing() -> None:
    """Have /dev/null in place of each standard descriptor that is closed, for us and for what we start."""
    for fd in STANDARD:
        if not _is_open(fd):
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(fd, True)
    for fd, name in zip(STANDARD, ("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # Python found it closed when it started
            setattr(sys, name, open(fd, "w" if fd else "r", closefd=False))  # noqa: SIM115 - as long as the process


def is_output(fd: int) -> bool:
    """Whether a program that we start can write there as to its standard output: no file of the app's own, which it
    opened after it had closed that descriptor (Python's are not inheritable)."""
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        return os.get_inheritable(fd) and flags & os.O_ACCMODE != os.O_RDONLY
    except OSError:
        return False


def name_of(fd: int) -> str:
    """What it leads to: the path of a file, or the kernel's name for a pipe or a socket."""
    if not is_output(fd):
        return os.devnull
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return f"descriptor {fd}"


def pipe() -> tuple[int, int]:
    """Its read and its write end, both above 2. Raises OSError."""
    read_end, write_end = os.pipe()
    try:
        read_end = above_standard(read_end)
    except BaseException:
        os.close(write_end)
        raise
    try:
        return read_end, above_standard(write_end)
    except BaseException:
        os.close(read_end)
        raise


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
