"""Makes this interpreter lack what macOS or Windows lack, as far as onesession could want it: `be("darwin")`.

Modules that those have not cannot be imported, functions and constants are deleted from those that they have, and what
Windows answers with an error raises it. What the standard library and numpy need themselves is imported before.
"""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures.thread  # noqa: F401
import ctypes
import errno
import importlib.abc
import io
import logging.handlers  # noqa: F401
import mmap
import os
import select
import signal
import socket
import subprocess  # noqa: F401
import sys
import tempfile  # noqa: F401
from collections.abc import Iterable
from typing import Any

import numpy as np  # noqa: F401

_NO_MODULES = {
    "darwin": {"posix_ipc"},
    "win32": {
        "posix_ipc",
        "fcntl",
        "resource",
        "termios",
        "grp",
        "pwd",
        "posix",
        "pty",
        "tty",
        "syslog",
        "readline",
    },
}
_OS = {
    "darwin": (
        *(
            "memfd_create",
            "eventfd",
            "eventfd_read",
            "eventfd_write",
            "sched_getaffinity",
            "sched_setaffinity",
            "pipe2",
        ),
        *(
            "O_PATH",
            "O_TMPFILE",
            "posix_fadvise",
            "splice",
            "copy_file_range",
            "getrandom",
            "pidfd_open",
            "setns",
        ),
    ),
    "win32": (
        *(
            "fork",
            "register_at_fork",
            "geteuid",
            "getuid",
            "getgid",
            "getegid",
            "getgroups",
            "setsid",
            "killpg",
            "uname",
        ),
        *(
            "O_CLOEXEC",
            "O_NONBLOCK",
            "O_NOFOLLOW",
            "O_DIRECTORY",
            "pread",
            "pwrite",
            "mkfifo",
            "chown",
            "getpgid",
        ),
        *(
            "sched_yield",
            "sysconf",
            "getloadavg",
            "waitid",
            "WNOHANG",
            "wait",
            "wait4",
            "posix_spawn",
            "umask_",
        ),
        *("sendfile", "fchmod", "fchown", "lockf", "nice", "ttyname", "openpty", "statvfs", "major", "minor"),
    ),
}
_PREFIXES = {
    "darwin": ("MFD_", "EFD_", "SCHED_", "CLONE_"),
    "win32": ("P_", "SEEK_HOLE", "SEEK_DATA", "RTLD_"),
}
_SOCKET = {
    "darwin": ("SO_PEERCRED", "MSG_CMSG_CLOEXEC", "SOCK_CLOEXEC", "SOCK_NONBLOCK"),
    "win32": (
        *(
            "AF_UNIX",
            "CMSG_LEN",
            "CMSG_SPACE",
            "SCM_RIGHTS",
            "send_fds",
            "recv_fds",
            "MSG_DONTWAIT",
            "MSG_NOSIGNAL",
        ),
    ),
}
_SELECT = {"darwin": ("epoll",), "win32": ("poll", "epoll")}
_SIGNALS = (
    "SIGKILL",
    "SIGHUP",
    "SIGUSR1",
    "SIGUSR2",
    "SIGCHLD",
    "SIGALRM",
    "SIGPIPE",
    "SIGCONT",
    "SIGSTOP",
    "setitimer",
)


class _Absent(importlib.abc.MetaPathFinder):
    def __init__(self, names: set[str]) -> None:
        self.names = names

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def be(system: str) -> None:
    """Call it before anything of onesession is imported."""
    assert not any(name.startswith(("worker_client", "broker")) for name in sys.modules)
    windows, prefixes = system == "win32", _PREFIXES[system]
    if windows:
        _be_windows()
    everything = _OS[system] if not windows else (*_OS["darwin"], *_OS[system])
    _delete(
        os,
        (*everything, *[name for name in dir(os) if name.startswith(("MFD_", "EFD_", "SCHED_", *prefixes))]),
    )
    _delete(socket, _SOCKET["darwin"] + (_SOCKET[system] if windows else ()))
    _delete(select, _SELECT[system])
    if windows:
        _delete(mmap, [name for name in dir(mmap) if name.startswith(("MAP_", "PROT_", "MADV_"))])
        _delete(signal, _SIGNALS)
    _hide("/proc", "/sys", "/dev/shm", "/run")
    absent = _NO_MODULES[system]
    for name in absent:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, _Absent(absent))
    sys.platform = system


def _be_windows() -> None:
    pair, family = socket.socketpair, socket.AF_UNIX

    def library(name: Any, *rest: Any, **options: Any) -> None:
        raise TypeError(f"LoadLibrary() argument 1 must be str, not {type(name).__name__}")

    def no_reader(*_: Any) -> None:
        raise NotImplementedError  # as the proactor loop does

    socket.socketpair = lambda *_: pair(family)  # type: ignore[assignment, misc] # the loop's own, over TCP there
    ctypes.CDLL = ctypes.PyDLL = library  # type: ignore[misc, assignment]
    loop: Any = asyncio.SelectorEventLoop
    loop.add_reader = loop.remove_reader = loop.add_signal_handler = no_reader


def _hide(*folders: str) -> None:
    """Nothing is there: for whoever opens, looks or lists."""

    def hidden(call: Any) -> Any:
        def checked(path: Any, *rest: Any, **options: Any) -> Any:
            if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(folders):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
            return call(path, *rest, **options)

        return checked

    builtins.open = io.open = hidden(open)  # type: ignore[assignment, misc]
    for name in ("open", "stat", "lstat", "listdir", "scandir", "readlink"):
        setattr(os, name, hidden(getattr(os, name)))


def _delete(module: Any, names: Iterable[str]) -> None:
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
