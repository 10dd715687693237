"""How many connections each process may have, and each other user, and how long one may be there without a word.

A worker needs one for each of its clients. Whoever takes more than these takes them from others: descriptors, and with
each channel a budget of shared memory.
"""

from __future__ import annotations

import os
from collections import Counter

from worker_client.system.clock import monotonic

MOST_OF_A_PROCESS = 256
MOST_OF_A_USER = 1024
"""Of another user than the broker's own and root, who could do worse."""
SECONDS_TO_HELLO = 10.0
_ONCE_IN_S = 10.0


class Peers:
    """The connections there are. Control thread only."""

    def __init__(self) -> None:
        self._processes: Counter[int] = Counter()
        self._users: Counter[int] = Counter()
        self._logged: dict[int, float] = {}

    def add(self, pid: int, uid: int) -> str:
        """Count one more. Why it is one too many, "" if it is not."""
        self._processes[pid] += 1
        self._users[uid] += 1
        # A process of another pid namespace has no number here.
        if pid and self._processes[pid] > MOST_OF_A_PROCESS:
            return (
                f"process {pid} has {MOST_OF_A_PROCESS} connections to this broker, the most that one may have: "
                "use one client in all its threads, and close those that are not used"
            )
        if uid not in (0, os.geteuid()) and self._users[uid] > MOST_OF_A_USER:
            return (
                f"the processes of uid {uid} have {MOST_OF_A_USER} connections to this broker, the most that another "
                "user may have"
            )
        return ""

    def remove(self, pid: int, uid: int) -> None:
        for counter, key in ((self._processes, pid), (self._users, uid)):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]

    def may_be_logged(self, uid: int) -> bool:
        """Whether the log may have another line on this user, who could fill it else."""
        now = monotonic()
        if now - self._logged.get(uid, -_ONCE_IN_S) < _ONCE_IN_S:
            return False
        self._logged[uid] = now
        return True
