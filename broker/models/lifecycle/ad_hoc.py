"""Keeps the signatures that sessions asked for: a limited number of sets of feeds and fetches, with a share for each
worker.

TensorFlow keeps a pruned copy of the graph for each set. A set stays as long as a worker that asked for it; sets that
no worker uses any more stay until there is no room for another, and the oldest goes first.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from broker.models.lifecycle.entry import Entry
from broker.models.lifecycle.version import Version
from worker_client.wire.errors import Overloaded

MOST = 1000
SHARE = 250


class AdHocSignatures:
    """The signatures that sessions asked for. Used under the repository's lock."""

    def __init__(self) -> None:
        self._holders: dict[int, set[Hashable]] = {}  # workers by the entry's number

    def found(self, version: Version, key: Any, worker: Hashable) -> tuple[Entry, tuple[str, ...]] | None:
        """The existing signature, which this worker now holds, too; None if there is none. Raises Overloaded past its
        share."""
        found = version.ad_hoc.pop(key, None)
        if found is not None:
            version.ad_hoc[key] = found  # it is now the last to be removed
            self._hold(found[0].id, worker)
        return found

    def make_room(self, versions: Iterable[Version], worker: Hashable) -> bool:
        """Make room for one more signature of this worker. True if another one was removed. Raises Overloaded if there
        is no room."""
        versions = list(versions)
        there = {entry.id for version in versions for entry, _ in version.ad_hoc.values()}
        self._holders = {number: held for number, held in self._holders.items() if number in there}
        self._check_share(worker)
        if len(there) < MOST:
            return False
        for version in versions:
            for key, (entry, _) in version.ad_hoc.items():
                if entry.id not in self._holders:
                    del version.ad_hoc[key]
                    return True
        raise Overloaded(
            f"the workers' sessions have asked for {MOST} different sets of feeds and fetches, the maximum "
            "that the "
            "broker keeps: use fewer, and the same ones in all workers"
        )

    def add(self, version: Version, key: Any, made: tuple[Entry, tuple[str, ...]], worker: Hashable) -> None:
        version.ad_hoc[key] = made
        self._hold(made[0].id, worker)

    def release(self, worker: Hashable) -> None:
        """Release the signatures of a worker that is gone."""
        for number, held in list(self._holders.items()):
            held.discard(worker)
            if not held:
                del self._holders[number]

    def _hold(self, number: int, worker: Hashable) -> None:
        if worker not in self._holders.get(number, ()):
            self._check_share(worker)
            self._holders.setdefault(number, set()).add(worker)

    def _check_share(self, worker: Hashable) -> None:
        if sum(worker in held for held in self._holders.values()) >= SHARE:
            raise Overloaded(
                f"this worker's sessions have asked for {SHARE} different sets of feeds and fetches, its "
                "share of "
                f"{MOST:,}: fetch more tensors at a time, or always the same ones"
            )
