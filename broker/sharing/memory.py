"""Shared memory that the broker hands out: names, budgets, and the sweep of names that a killed broker left."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections import Counter
from collections.abc import Hashable
from pathlib import Path

from broker.host.memory_left import left_bytes
from worker_client.ipc import semaphore
from worker_client.ipc.segment import Segment
from worker_client.ipc.semaphore import Semaphore
from worker_client.wire.errors import BrokerUnavailable, Overloaded
from worker_client.wire.layout import size_class

_SHM = Path("/dev/shm")
_SPARE_BYTES = 16 << 20  # left to other programs


class Memory:
    """All shared memory of one broker, counted against `max_total_bytes`. Thread-safe."""

    def __init__(self, prefix: str, max_total_bytes: int, max_channel_bytes: int) -> None:
        self.prefix = prefix
        self.max_total_bytes = max_total_bytes
        self.max_channel_bytes = max_channel_bytes
        self.used_bytes = 0
        self._of_processes: Counter[Hashable] = Counter()  # bytes
        self._lock = threading.Lock()

    def account(self, process: Hashable = None) -> Account:
        """An account for one channel of that process, whose channels share one budget; None: for a channel alone."""
        return Account(self, object() if process is None else process)

    def new_name(self) -> str:
        """A name that other users cannot predict: the prefix alone is known to all that know the address."""
        return f"{self.prefix}{os.getpid()}.{secrets.token_hex(8)}"

    def new_semaphore(self) -> Semaphore:
        return semaphore.create(self.new_name())

    def take(self, account: Account, nbytes: int, replaced: int = 0) -> None:
        """Add `nbytes` to an account and subtract `replaced`. Raises Overloaded, which names the budget."""
        with self._lock:
            if account.closed:
                raise BrokerUnavailable("the connection to the broker was closed")
            used, total = self._of_processes[account.process] - replaced, self.used_bytes - replaced
            _check_budget("this worker's", used, nbytes, self.max_channel_bytes, "max_channel_bytes")
            _check_budget("the broker's", total, nbytes, self.max_total_bytes, "max_total_bytes")
            self._count(account, nbytes - replaced)

    def give(self, account: Account, nbytes: int) -> None:
        with self._lock:
            if not account.closed:
                self._count(account, -nbytes)

    def close(self, account: Account) -> None:
        """Subtract everything of an account, which takes nothing any more."""
        with self._lock:
            account.closed = True
            self._count(account, -account.used_bytes)

    def leave_process(self, account: Account) -> None:
        """Count the account in the total only: its connection has ended, and its last runs must not limit the next
        one."""
        with self._lock:
            nbytes = account.used_bytes
            self._count(account, -nbytes)
            account.process = object()
            self._count(account, nbytes)

    def _count(self, account: Account, nbytes: int) -> None:
        self.used_bytes += nbytes
        account.used_bytes += nbytes
        self._of_processes[account.process] += nbytes
        if not self._of_processes[account.process]:
            del self._of_processes[account.process]


class Account:
    """The segments of one channel, counted against `max_channel_bytes` together with the process's other channels."""

    def __init__(self, memory: Memory, process: Hashable) -> None:
        self._memory = memory
        self.process = process
        self.used_bytes = 0
        self.closed = False

    def new_region(self, nbytes: int, replaced: int = 0) -> Segment:
        """A segment of the size class that holds `nbytes`; if that exceeds a budget, of exactly `nbytes`.

        `replaced`: the size of the region that it replaces, which is then no longer counted.
        """
        try:
            return self.new_segment(size_class(nbytes), replaced)
        except Overloaded:
            return self.new_segment(nbytes, replaced)

    def new_segment(self, nbytes: int, replaced: int = 0) -> Segment:
        """A new segment. Raises Overloaded past either budget, or if the memory limit leaves no room for it."""
        self._memory.take(self, nbytes, replaced)
        try:
            _check_room(nbytes)
            return Segment.create(self._memory.new_name(), nbytes)
        except BaseException:
            self._memory.give(self, nbytes - replaced)
            raise

    def give(self, nbytes: int) -> None:
        """Stop counting a region that is no longer used."""
        self._memory.give(self, nbytes)

    def give_back(self, segment: Segment) -> None:
        """Close a segment that no worker has received."""
        self._memory.give(self, segment.nbytes)

    def leave_process(self) -> None:
        """Note that the connection has ended, though runs may still use the segments."""
        self._memory.leave_process(self)

    def close(self) -> None:
        """Note that no segment of this channel is used any more."""
        self._memory.close(self)


def _check_budget(whose: str, used: int, wanted: int, most: int, setting: str) -> None:
    if used + wanted > most:
        raise Overloaded(
            f"{whose} shared memory is used up: {used:,} of {most:,} bytes, {wanted:,} more needed; "
            f"send smaller requests or raise {setting} (onesession serve --{setting.replace('_', '-')})"
        )


def _check_room(nbytes: int) -> None:
    """Raise Overloaded before the memory limit: beyond it the kernel would not refuse memory, but kill a process."""
    left = left_bytes()
    if left is not None and nbytes + _SPARE_BYTES > left:
        raise Overloaded(
            f"there is no memory for another segment of {nbytes:,} bytes: {max(0, left):,} are left of "
            "what the "
            "machine has or its container may use; give it more (docker run --memory) or lower "
            "max_total_bytes "
            "(onesession serve --max-total-bytes)"
        )


def path_of(semaphore: Semaphore) -> Path:
    """The file of a semaphore."""
    return _SHM / f"sem.{semaphore.name.lstrip('/')}"


def sweep(prefix: str) -> list[str]:
    """Remove the names that a killed broker of this address left. Only for the holder of its lock.

    Names that cannot be removed stay: another user created them, and none of our names is equal to one.
    """
    stem = prefix.lstrip("/")
    left = [path for path in _SHM.iterdir() if path.name.startswith((stem, f"sem.{stem}"))]
    removed = []
    for path in left:
        with contextlib.suppress(OSError):
            path.unlink()
            removed.append(path.name)
    return removed
