"""When what could not be loaded is tried again though nothing of it has changed: what it lacked may be there by then.

    failed --1 s--> tried --2 s--> tried --4 s--> ... every five minutes, until it is loaded, changed or not wanted

Knows no clock. Not tried again are a version without files (a function of a module), one whose load had no end, and one
for which the version that is served would have to go first (`unload_first`).
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
    """What is tried: a version of a model as its files are; with others it is another try."""

    model: str
    number: int
    fingerprint: str

    @classmethod
    def of(cls, version: Version) -> FailedVersion:
        return cls(version.spec.name, version.number, version.fingerprint)


class LoadRetries:
    """Any thread."""

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
        """Its load has just failed; what the log is to say of the next try, "" if there is none."""
        tried = FailedVersion.of(version)
        if not version.fingerprint or version.abandoned:
            self.forget(tried)
            return ""
        with self._lock:
            pause_s = self._pauses.setdefault(tried, Backoff(self._first_s, self._last_s)).next_s()
            self._due_s[tried] = now_s + pause_s
        return f"; it is tried again in {pause_s:g} s"

    def due(self, model: str, now_s: float) -> list[FailedVersion]:
        """What of this model is to be tried now."""
        with self._lock:
            return sorted(each for each, at_s in self._due_s.items() if each.model == model and at_s <= now_s)

    def again(
        self, served: ServedModel, wanted: Iterable[Version], due: Iterable[FailedVersion]
    ) -> Iterator[Version]:
        """Of the `wanted` versions that are on disk now those that are `due`; what is due and not among them is
        forgotten."""
        for tried in due:
            found = next((each for each in wanted if _is_same(each, tried)), None)
            if found is None or _must_stay(served, tried):
                self.forget(tried)
            else:
                found.number = tried.number  # that of an unnumbered one counts its loads
                yield found

    def next_s(self) -> float | None:
        """When the next one is due; None if there is none."""
        with self._lock:
            return min(self._due_s.values(), default=None)

    def forget(self, tried: FailedVersion) -> None:
        """It was loaded, or is not to be tried again."""
        with self._lock:
            self._pauses.pop(tried, None)
            self._due_s.pop(tried, None)


def _is_same(version: Version, tried: FailedVersion) -> bool:
    return version.fingerprint == tried.fingerprint and (
        version.number == tried.number or not version.is_numbered
    )


def _must_stay(served: ServedModel, tried: FailedVersion) -> bool:
    """It has been loaded meanwhile, or what is served would have to make room for a try."""
    there = served.available
    return any(each.number == tried.number for each in there) or bool(there and served.spec.unload_first)
