"""Which process this is, known without any hook.

A fork copies whatever a process has: its channels, its descriptors, locks held by threads that the child does not have.
Only os.fork notifies Python of a fork; uWSGI and C libraries fork without doing so. So each object that belongs to one
process holds a word of memory that the kernel wipes in every child (MADV_WIPEONFORK, Linux 4.14), and checks it before
it touches anything that the processes share:

    new_word()        reads 1 in the process that made it, until that process writes 0, and 0 in every child
    here()            this process; the word of an inherited Process object reads 0 in a child
    register()        what a child releases when it first notices the fork: at a call, or at os.fork. Client and broker
                      share this one registry

If the kernel does not support this, the pid is compared, which costs a system call each time.

Python's own state is copied as well, with the interpreter's lock and its waiters. That usually hangs a child as soon as
it has a second thread, and we start one. CPython requires the code that forks to call PyOS_AfterFork_Child. If that was
not done, this module does it when it notices the fork, while the child still has one thread.
"""

from __future__ import annotations

import _thread
import ctypes
import mmap
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from worker_client.wire.errors import BrokerUnavailable

Owner = TypeVar("Owner")

_WIPE_ON_FORK = 18
_NO_ADVICE = -1
_NUM_THREADS = 20  # the field of proc(5)'s stat, counted from 1

_libc: Any = ctypes.PyDLL(None) if sys.platform != "win32" else None  # PyDLL keeps the interpreter's lock


class Word(Protocol):
    """A word of memory; `word[0]` is its value."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


class _PidWord:
    """A word for kernels that cannot wipe memory at a fork."""

    __slots__ = ("_pid", "_value")

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._value = 1

    def __getitem__(self, index: int, /) -> int:
        return self._value if os.getpid() == self._pid else 0

    def __setitem__(self, index: int, value: int, /) -> None:
        self._value = value


def new_word() -> Word:
    """A word that reads 1 in this process and 0 in every child."""
    if not _wipes:
        return _PidWord()
    try:
        word = memoryview(_wiped_page())[:1]
    except OSError:  # no address space
        return _PidWord()
    word[0] = 1
    return word


def _wiped_page() -> mmap.mmap:
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page.madvise(_WIPE_ON_FORK)
    return page


def _kernel_wipes() -> bool:
    """Whether the kernel wipes pages at a fork. Some emulators accept any advice and follow none, so invalid advice
    must be refused."""
    if sys.platform != "linux":  # elsewhere the number may mean other advice
        return False
    try:
        page = _wiped_page()
    except OSError:
        return False
    try:
        page.madvise(_NO_ADVICE)
    except OSError:
        return True
    return False


_wipes = _kernel_wipes()


class Process:
    """One process. Objects made in it refer to it; in a child `word[0]` reads 0."""

    __slots__ = ("_begun", "_entering", "_heirs", "entered", "word")

    def __init__(self) -> None:
        self.word = new_word()
        self._heirs: dict[str, Process] = {}
        self._entering = _thread.RLock()  # not threading's, which gevent may have replaced
        self._begun = False
        self.entered = False
        """Whether everything of the parent's has been released."""

    def heir(self) -> Process:
        """The child's own Process, the same for all its threads. It is made without a lock, because a child must not
        wait for an inherited one."""
        return self._heirs.setdefault("", Process())

    @property
    def is_left(self) -> bool:
        """Whether a child has begun to release it."""
        return bool(self._heirs)

    def enter(self) -> None:
        """Release what belongs to the parent. The first thread does so, and the others wait for it: what they made
        meanwhile would be released as well."""
        with self._entering:
            if self._begun:
                return
            self._begun = True
            try:
                failed = _release()
            except BaseException:  # a signal handler's: the next thread begins again
                self._begun = False
                raise
            self.entered = True
            if failed is not None:
                raise failed


_owners: dict[int, tuple[weakref.ref[Any], Callable[[Any], object]]] = {}
_process = Process()


def _release() -> Exception | None:
    """What the first owner that failed has raised; the others are released all the same."""
    failed: Exception | None = None
    for reference, after_fork_in_child in list(_owners.values()):
        owner = reference()
        if owner is not None:
            try:
                after_fork_in_child(owner)
            except Exception as error:
                failed = failed or error
    return failed


def here() -> Process:
    """This process."""
    process = _process
    if process.word[0]:
        return process
    if not process.is_left:
        _tell_python()
    return _enter()


def _enter() -> Process:
    global _process
    process = _process
    while not process.word[0]:
        process = process.heir()
    process.enter()
    if process.entered:  # not so within the release, whose functions ask for this process as well
        _process = process
    return process


def _tell_python() -> None:
    """Notify Python of a fork that it does not know of. Python then forgets all other threads, so there must be none.

    Nothing here releases the interpreter's lock, because that is where a child hangs.
    """
    if _threads() != 1:
        return
    api = ctypes.pythonapi
    api.PyInterpreterState_Get.restype = api.PyInterpreterState_Main.restype = ctypes.c_void_p
    if (
        api.PyInterpreterState_Get() == api.PyInterpreterState_Main()
    ):  # PyOS_AfterFork_Child ends a process that forked in another interpreter
        api.PyOS_AfterFork_Child()


def _threads() -> int:
    """The number of threads of this process, as the kernel counts them; 0 if unknown."""
    fd = _libc.open(b"/proc/self/stat", os.O_RDONLY | os.O_CLOEXEC)
    if fd < 0:
        return 0
    text = ctypes.create_string_buffer(1024)
    _libc.read(fd, text, len(text) - 1)
    _libc.close(fd)
    fields = text.value.rpartition(b")")[2].split()  # from the third on: the second is the program's name
    return int(fields[_NUM_THREADS - 3]) if len(fields) > _NUM_THREADS - 3 else 0


def register(owner: Owner, after_fork_in_child: Callable[[Owner], object]) -> None:
    """Have `after_fork_in_child(owner)` called in every child and its children, as long as the owner lives. The
    function must not wait, and must not touch anything that the parent still uses."""
    here()  # objects that a child makes before it notices the fork are its own
    key = id(owner)
    reference = weakref.ref(owner, lambda _, owners=_owners: owners.pop(key, None))  # type: ignore[misc]
    _owners[key] = reference, after_fork_in_child


def unregister(owner: Any) -> None:
    """Remove an owner that no longer has anything to release in a child."""
    _owners.pop(id(owner), None)


def not_ours(what: str) -> BrokerUnavailable:
    return BrokerUnavailable(
        f"{what} belongs to the process that this one was forked from; make it again here"
    )


# This is only an early check: otherwise a child that never calls would hold its parent's connections open.
if hasattr(os, "register_at_fork"):  # Windows has neither
    os.register_at_fork(after_in_child=_enter)
