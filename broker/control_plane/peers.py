"""Limits how many connections each process and each other user may have, and how long a connection may stay silent.

A worker needs one connection for each of its clients. A process that takes more deprives others of descriptors and,
with each channel, of shared memory.
"""

from __future__ import annotations

import os
from collections import Counter

from worker_client.system.clock import monotonic

MOST_OF_A_PROCESS = 256
MOST_OF_A_USER = 1024
"""Connections of a user other than the broker's own and root, which could do more harm anyway."""
SECONDS_TO_HELLO = 10.0
_ONCE_IN_S = 10.0


class Peers:
    """Counts the connections. Used on the control thread only."""

    def __init__(self) -> None:
        self._processes: Counter[int] = Counter()
        self._users: Counter[int] = Counter()
        self._logged: dict[int, float] = {}

    def add(self, pid: int, uid: int) -> str:
        """Count one more connection. Returns why it is one too many; "" if it is not."""
        self._processes[pid] += 1
        self._users[uid] += 1
        # A process of another pid namespace has no pid here.
        if pid and self._processes[pid] > MOST_OF_A_PROCESS:
            return (
                f"process {pid} has {MOST_OF_A_PROCESS} connections to this broker, the limit for one "
                "process: "
                "use one client in all its threads, and close those that are not used"
            )
        if uid not in (0, os.geteuid()) and self._users[uid] > MOST_OF_A_USER:
            return (
                f"the processes of uid {uid} have {MOST_OF_A_USER} connections to this broker, the limit "
                "for another "
                "user"
            )
        return ""

    def remove(self, pid: int, uid: int) -> None:
        for counter, key in ((self._processes, pid), (self._users, uid)):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]

    def may_be_logged(self, uid: int) -> bool:
        """Whether another line about this user may be logged, so that no user can fill the log."""
        now = monotonic()
        if now - self._logged.get(uid, -_ONCE_IN_S) < _ONCE_IN_S:
            return False
        self._logged[uid] = now
        return True
