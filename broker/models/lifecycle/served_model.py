"""One model in service: its versions, the version for calls that name none, and the versions of its labels.

    number of a version's own entry ----------------------> that version, as long as it is AVAILABLE
    number that follows (no version, or a label) ---------> the latest AVAILABLE version, or the label's

A number that follows moves to the next version if that has the same signature, so that handles need no update. If the
signature differs, it gets a new number, and the old number becomes invalid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from broker.models.lifecycle.entry import Entry
from broker.models.lifecycle.version import Version, VersionState
from broker.models.spec import ModelSpec
from broker.models.version_policy import Policy

_ENDED_KEPT = 5
Key = tuple[str | None, str]
"""A label, or None for calls that name no version; and the name of a signature."""


class ServedModel:
    """One model in service. Changed and read under the repository's lock."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec  # as configured
        self.policy = Policy.of(spec.versions)
        self.labels = dict(spec.labels)
        self.wanted_labels = self.labels  # applied as soon as these versions are loaded
        self.versions: list[Version] = []  # in the order in which their loads began
        self.adopted = False
        self._following: dict[Key, tuple[int, Entry]] = {}

    def __repr__(self) -> str:
        return f"<ServedModel {self.spec.name}, {self.versions}>"

    @property
    def available(self) -> list[Version]:
        """The available versions, ascending; of two with the same number, the one loaded last comes last."""
        return sorted((each for each in self.versions if each.is_available), key=lambda each: each.number)

    @property
    def default(self) -> Version | None:
        """The version for calls that name none: the latest."""
        return next(reversed(self.available), None)

    def why_not(self) -> str:
        """The state and cause of the version begun last, if no version can be called."""
        last = next(reversed(self.versions), None)
        return (
            "it has none" if last is None else f"version {last.number} is {last.state.value} ({last.cause})"
        )

    def labelled(self, label: str) -> Version | None:
        """The version of the label, in any state."""
        of_number = [each for each in self.versions if each.number == self.labels[label]]
        return next((each for each in reversed(of_number) if each.is_available), None) or next(
            reversed(of_number), None
        )

    def follow(self, new_number: Callable[[], int]) -> None:
        """Update the numbers that follow to the versions that are available now."""
        targets: dict[str | None, Version | None] = {None: self.default}
        targets.update({label: self.labelled(label) for label in self.labels})
        following: dict[Key, tuple[int, Entry]] = {}
        for label, version in targets.items():
            if version is not None and version.is_available:
                for name, entry in version.entries.items():
                    before = self._following.get((label, name))
                    same = before is not None and _is_like(before[1], entry)
                    number = before[0] if before is not None and same else new_number()
                    following[label, name] = number, entry
        self._following = following

    def numbers(self) -> Iterator[tuple[int, Entry]]:
        """The entry of each number."""
        for version in self.available:
            for entry in version.entries.values():
                yield entry.id, entry
        if self.default is not None:
            for entry, _ in self.default.ad_hoc.values():
                yield entry.id, entry
        yield from self._following.values()

    def forget_ended(self) -> None:
        """Drop ended versions, except the last few and the last one of each number."""
        ended = [each for each in self.versions if each.state is VersionState.END]
        last = {each.number: each for each in self.versions}
        gone = [each for each in ended if last[each.number] is not each]
        kept = [each for each in ended if each not in gone]
        gone += kept[:-_ENDED_KEPT]
        self.versions = [each for each in self.versions if each not in gone]

    # -- reported ------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """The model as plain values. The first level describes the version for calls that name none."""
        default, spec = self.default, self.spec
        if default is not None and default.model is not None:
            spec = default.model.spec
        return {
            "name": spec.name,
            "source": self.spec.source,
            "version": None if default is None else default.number,
            "max_batch_size": spec.batch_limit,
            "caller_thread": spec.caller_thread is not False,
            "max_concurrency": spec.max_concurrency or 1,
            "timeout": spec.timeout,
            "policy": self.policy.to_value(),
            **self._contents(default, None),
            "versions": [self._version(version, version.number) for version in self._last_of_each()],
            "labels": {label: self._label(label) for label in self.labels},
        }

    def _last_of_each(self) -> list[Version]:
        """One version for each number: the one that can be called, or else the last begun."""
        found: dict[int, Version] = {}
        for version in self.versions:
            before = found.get(version.number)
            if before is None or version.is_available or not before.is_available:
                found[version.number] = version
        return [found[number] for number in sorted(found)]

    def _label(self, label: str) -> dict[str, Any]:
        version = self.labelled(label)
        if version is not None:
            return self._version(version, label)
        missing = Version(self.labels[label], self.spec)
        missing.enter(VersionState.END, "it is not served")
        return self._version(missing, label)

    def _version(self, version: Version, key: int | str) -> dict[str, Any]:
        return {
            "version": version.number,
            "state": version.state.value,
            "cause": version.cause,
            "set_aside": version.set_aside,
            "since": version.since,
            "source": version.spec.source,
            "memory_bytes": version.memory_bytes,
            **self._contents(version if version.is_available else None, key),
        }

    def _contents(self, version: Version | None, key: int | str | None) -> dict[str, Any]:
        """The signatures of a version. `key` selects their numbers: the version's own if it is an integer."""
        model = None if version is None else version.model
        if version is None or model is None:
            nothing = dict.fromkeys(("default_signature", "intra_op_threads", "onednn", "p50_us"))
            return {**nothing, "light": False, "signatures": [], "left_out": {}}
        cost = version.entries[model.default_signature].cost
        described = [
            _describe(entry, entry.id if isinstance(key, int) else self._following[key, name][0])
            for name, entry in version.entries.items()
        ]
        return {
            "default_signature": model.default_signature,
            "intra_op_threads": model.intra_op_threads,
            "onednn": model.onednn,
            "light": cost.light,
            "p50_us": cost.p50_us,
            "signatures": described,
            "left_out": dict(model.left_out),
        }


def _is_like(before: Entry, entry: Entry) -> bool:
    """Whether both may share a number, from which a worker knows what to send and what it must not repeat."""
    return before.signature == entry.signature and bool(before.stateful) == bool(entry.stateful)


def _describe(entry: Entry, number: int) -> dict[str, Any]:
    return {
        **entry.signature.to_message(),
        "id": number,
        "batchable": entry.batchable,
        "stateful": entry.stateful,
        "apart": entry.apart,
        "light": entry.cost.light,
        "p50_us": entry.cost.p50_us,
        "batch_us": [list(each) for each in entry.cost.batches],
        "note": entry.cost.note,
        "max_run_seconds": entry.max_run_seconds,
    }
