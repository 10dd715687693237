"""Handles descriptors 0, 1 and 2, which a daemon may have closed: the next file that is opened then gets such a number,
and a library that writes an error to descriptor 2 writes into that file.

Our programs open /dev/null for each missing descriptor (`open_missing`). In a process of another program, descriptors
that our children inherit get numbers above 2 (`pipe`, `above_standard`), and the children get /dev/null
(`process/spawn.py`).
"""

from __future__ import annotations

import fcntl
import os
import sys

from worker_client.system.descriptor import above_standard

STANDARD = (0, 1, 2)


def open_missing() -> None:
    """Open /dev/null for each standard descriptor that is closed, for this process and those that it starts."""
    for fd in STANDARD:
        if not _is_open(fd):
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
            os.set_inheritable(fd, True)
    for fd, name in zip(STANDARD, ("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # the descriptor was closed when Python started
            setattr(sys, name, open(fd, "w" if fd else "r", closefd=False))  # noqa: SIM115 - as long as the process


def is_output(fd: int) -> bool:
    """Whether a program that we start can use it as standard output: not a file that the app opened after it had closed
    that descriptor (Python opens files as not inheritable)."""
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        return os.get_inheritable(fd) and flags & os.O_ACCMODE != os.O_RDONLY
    except OSError:
        return False


def name_of(fd: int) -> str:
    """The target of a descriptor: the path of a file, or the kernel's name for a pipe or a socket."""
    if not is_output(fd):
        return os.devnull
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return f"descriptor {fd}"


def pipe() -> tuple[int, int]:
    """The read and the write end of a new pipe, both above 2. Raises OSError."""
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
