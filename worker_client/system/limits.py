"""Finds out which limit of this process, or of the machine, made the kernel refuse something.

A server that limits its workers (Odoo's limit_memory_hard, `ulimit -v`, a daemon's `ulimit -n`) expects them to survive
a request that is too large. So a refusal is reported with the name of the limit, and fails only that call.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

from worker_client.wire.errors import Overloaded

try:
    import resource
except ModuleNotFoundError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

_SPARE_BYTES = 1 << 20  # memory that the kernel adds: a growing stack, a page at either end
_SPARE_MAPS = 64
_USUAL_STACK_BYTES = 8 << 20


def overloaded_by(error: OSError | MemoryError, nbytes: int, what: str) -> Overloaded | None:
    """The error for a caller that could not get `what`, of `nbytes` bytes; None if the cause was not a limit."""
    number = errno.ENOMEM if isinstance(error, MemoryError) else error.errno
    if number in (errno.EMFILE, errno.ENFILE):
        return no_descriptor(what, number)
    if number == errno.EAGAIN:
        locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        return Overloaded(
            f"{what} cannot be mapped: all memory of this process is locked, and it may lock {locked:,} bytes; "
            "raise RLIMIT_MEMLOCK (ulimit -l)"
        )
    if number == errno.ENOMEM:
        return Overloaded(f"this process has no room for {what}: {_limit_of_memory(nbytes)}")
    return None


def no_memory(error: MemoryError) -> Overloaded:
    """The error for a call whose inputs or answer could not be converted or copied."""
    nbytes = getattr(error, "_total_size", 0)  # numpy's
    what = f"the inputs or outputs of a call ({error})" if str(error) else "the inputs or outputs of a call"
    return Overloaded(f"this process has no room for {what}: {_limit_of_memory(nbytes)}")


def no_thread(name: str, error: RuntimeError) -> Overloaded:
    """The error for a thread that could not be started."""
    why = f"the thread {name!r} cannot be started: {error}"
    stack = _soft("RLIMIT_STACK") or _USUAL_STACK_BYTES  # threading.stack_size() would set it
    if _is_past_address_space(stack):
        return Overloaded(f"{why}; its stack takes {stack:,} bytes, but {_address_space_text()}")
    return Overloaded(
        f"{why}; raise the limit of processes (ulimit -u, or pids.max of the container), or lower the size of thread "
        "stacks (ulimit -s)"
    )


def no_descriptor(what: str, number: int = errno.EMFILE) -> Overloaded:
    """The error for `what`, which needs a descriptor."""
    if number == errno.ENFILE:
        return Overloaded(f"{what}: the machine has no descriptor left; raise fs.file-max")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return Overloaded(
        f"{what}: this process has no descriptor left of {most:,}; raise RLIMIT_NOFILE (ulimit -n), or close what it "
        "does not use"
    )


def check_room(what: str) -> None:
    """Raises Overloaded if this process could not receive a descriptor now, before the other side sends one."""
    try:
        os.close(os.open("/", os.O_PATH | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise no_descriptor(what, error.errno) from None


def _limit_of_memory(nbytes: int) -> str:
    """The text about the memory limit that was most probably reached."""
    if _is_past_address_space(nbytes):
        return _address_space_text()
    most, maps = _most_maps(), _maps()
    if most and maps + _SPARE_MAPS > most:
        return f"it has {maps:,} of {most:,} mappings; raise vm.max_map_count, or have it map less"
    if data := _soft("RLIMIT_DATA"):
        return f"its data is limited to {data:,} bytes; raise RLIMIT_DATA (ulimit -d), or send less at a time"
    if _soft("RLIMIT_AS"):
        return _address_space_text()
    return "the kernel gives it no more memory; add memory, or lower what vm.overcommit_memory holds back"


def _is_past_address_space(nbytes: int) -> bool:
    space = _soft("RLIMIT_AS")
    return space > 0 and _address_space() + nbytes + _SPARE_BYTES > space


def _address_space_text() -> str:
    return (
        f"its address space is limited to {_soft('RLIMIT_AS'):,} bytes, and {_address_space():,} are in use; "
        "raise RLIMIT_AS (ulimit -v, Odoo's limit_memory_hard), or send less at a time"
    )


def _soft(limit: str) -> int:
    """The soft limit; 0 if there is none."""
    if not hasattr(resource, limit):
        return 0
    soft, _ = resource.getrlimit(getattr(resource, limit))
    return 0 if soft == resource.RLIM_INFINITY else soft


def _address_space() -> int:
    """The address space in use in bytes, as RLIMIT_AS counts it; 0 if unknown."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    except (OSError, ValueError):
        return 0


def _maps() -> int:
    try:
        with open("/proc/self/maps", "rb") as maps:
            return sum(1 for _ in maps)
    except OSError:
        return 0


def _most_maps() -> int:
    try:
        return int(Path("/proc/sys/vm/max_map_count").read_text())
    except (OSError, ValueError):
        return 0
