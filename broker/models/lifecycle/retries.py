"""Decides when failed loads are tried again although the files have not changed: the missing condition may be met by
then.

    failed --1 s--> tried --2 s--> tried --4 s--> ... every five minutes, until it is loaded, changed or unwanted

Reads no clock. Some versions are not tried again: those without files (a function of a module), those whose load did
not end, and those for which the served version would have to be unloaded first (`unload_first`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from broker.models.lifecycle.served_model import ServedModel
from broker.models.lifecycle.version import Version
from worker_client.ipc.backoff import Backoff

FIRST_SECONDS = 1.0
LAST_SECONDS = 300.0


class FailedVersion(NamedTuple):
    """A failed version of a model with its present files; changed files make it another one."""

    model: str
    number: int
    fingerprint: str

    @classmethod
    def of(cls, version: Version) -> FailedVersion:
        return cls(version.spec.name, version.number, version.fingerprint)


class LoadRetries:
    """The failed versions that are tried again. Used by any thread."""

    def __init__(self, first_s: float = FIRST_SECONDS, last_s: float = LAST_SECONDS) -> None:
        self._first_s = first_s
        self._last_s = last_s
        self._pauses: dict[FailedVersion, Backoff] = {}
        self._due_s: dict[FailedVersion, float] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Retries of {len(self._due_s)} versions>"

    def __contains__(self, version: Version) -> bool:
        """Whether it has failed before."""
        return FailedVersion.of(version) in self._pauses

    def failed(self, version: Version, now_s: float) -> str:
        """Note that a load has just failed. Returns a text about the next try for the log; "" if there is none."""
        tried = FailedVersion.of(version)
        if not version.fingerprint or version.abandoned:
            self.forget(tried)
            return ""
        with self._lock:
            pause_s = self._pauses.setdefault(tried, Backoff(self._first_s, self._last_s)).next_s()
            self._due_s[tried] = now_s + pause_s
        return f"; it is tried again in {pause_s:g} s"

    def due(self, model: str, now_s: float) -> list[FailedVersion]:
        """The versions of this model that must be tried now."""
        with self._lock:
            return sorted(each for each, at_s in self._due_s.items() if each.model == model and at_s <= now_s)

    def again(
        self, served: ServedModel, wanted: Iterable[Version], due: Iterable[FailedVersion]
    ) -> Iterator[Version]:
        """The `wanted` versions on disk that are `due`; other due versions are dropped."""
        for tried in due:
            found = next((each for each in wanted if _is_same(each, tried)), None)
            if found is None or _must_stay(served, tried):
                self.forget(tried)
            else:
                found.number = tried.number  # the number of an unnumbered version counts its loads
                yield found

    def next_s(self) -> float | None:
        """When the next one is due; None if there is none."""
        with self._lock:
            return min(self._due_s.values(), default=None)

    def forget(self, tried: FailedVersion) -> None:
        """Drop a version that was loaded, or that must not be tried again."""
        with self._lock:
            self._pauses.pop(tried, None)
            self._due_s.pop(tried, None)


def _is_same(version: Version, tried: FailedVersion) -> bool:
    return version.fingerprint == tried.fingerprint and (
        version.number == tried.number or not version.is_numbered
    )


def _must_stay(served: ServedModel, tried: FailedVersion) -> bool:
    """Whether no try is possible: it has been loaded since, or the served version would have to make room."""
    there = served.available
    return any(each.number == tried.number for each in there) or bool(there and served.spec.unload_first)
