"""The broker's report about its models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from worker_client.wire.documented import shown_as_documented
from worker_client.wire.errors import BrokerError, ModelFailed, ModelNotFound
from worker_client.wire.signature import Signature

AVAILABLE = "AVAILABLE"
_COMING = ("START", "LOADING")


@dataclass(frozen=True, slots=True)
class SignatureInfo:
    """A signature and the number under which requests name it; the number holds for one attachment. `max_run_seconds`
    limits a run; 0 sets no limit."""

    id: int
    signature: Signature
    stateful: str = ""
    """What a run does besides computing ("writes variable 'counter'"), or "". A stateful call that the broker had
    taken when it went away is not run again."""
    max_run_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One version of a model, or the version that a label stands for. `state` is START, LOADING, AVAILABLE, UNLOADING
    or END; `cause` says why, where that is not obvious. Only an AVAILABLE version has signatures.

    `signatures` maps names to signatures. `unusable` maps the names of signatures that this process cannot call to the
    reason (bfloat16 without ml_dtypes).
    """

    version: int
    state: str
    cause: str
    default_signature: str
    signatures: dict[str, SignatureInfo]
    unusable: dict[str, str]
    set_aside: bool = False
    """Whether it ended the broker's process repeatedly, so that the broker no longer serves it."""

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> VersionInfo:
        signatures, unusable = _signatures(message["signatures"])
        state, cause = message["state"], message["cause"]
        default, set_aside = message["default_signature"] or "", message.get("set_aside", False)
        return cls(message["version"], state, cause, default, signatures, unusable, set_aside)

    def __str__(self) -> str:
        return f"version {self.version} is {self.state}" + (f" ({self.cause})" if self.cause else "")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One served model. `version`, `default_signature`, `signatures` and `unusable` apply to calls that name no
    version; `version` is None while no version is served. `versions` holds all versions that the broker knows,
    `labels` the version that each label stands for. `timeout` is the default of calls in seconds, or None."""

    name: str
    version: int | None
    default_signature: str
    signatures: dict[str, SignatureInfo]
    unusable: dict[str, str]
    timeout: float | None = None
    versions: dict[int, VersionInfo] = field(default_factory=dict)
    labels: dict[str, VersionInfo] = field(default_factory=dict)

    @classmethod
    def from_message(cls, name: str, message: dict[str, Any]) -> ModelInfo:
        signatures, unusable = _signatures(message["signatures"])
        versions = {
            fields["version"]: VersionInfo.from_message(fields) for fields in message.get("versions", ())
        }
        labels = {
            label: VersionInfo.from_message(fields) for label, fields in message.get("labels", {}).items()
        }
        default = message["default_signature"] or ""
        timeout = message.get("timeout")
        return cls(name, message["version"], default, signatures, unusable, timeout, versions, labels)

    def called(self, version: int | str | None) -> VersionInfo:
        """The version for calls that name this version or label. Raises ModelNotFound; VersionLoading if a version is
        being loaded; ModelFailed if the broker has set it aside."""
        if version is None:
            if self.version is None:
                raise self._nothing_there()
            signatures, unusable = self.signatures, self.unusable
            return VersionInfo(self.version, AVAILABLE, "", self.default_signature, signatures, unusable)
        found = self.labels.get(version) if isinstance(version, str) else self.versions.get(version)
        if found is None:
            what = "label" if isinstance(version, str) else "version"
            raise ModelNotFound(f"model {self.name!r} has no {what} {version!r}; it has {self._callable()}")
        if found.state != AVAILABLE:
            label = f"label {version!r}: {found}" if isinstance(version, str) else str(found)
            if found.set_aside:
                raise ModelFailed(f"model {self.name!r}: {label}")
            raise ModelNotFound(f"model {self.name!r}: {label}; it has {self._callable()}")
        return found

    def _nothing_there(self) -> BrokerError:
        kind: type[BrokerError] = ModelNotFound
        if any(found.state in _COMING for found in self.versions.values()):
            kind = VersionLoading
        elif any(found.set_aside for found in self.versions.values()):
            kind = ModelFailed
        states = "; ".join(str(self.versions[number]) for number in sorted(self.versions))
        return kind(f"no version of model {self.name!r} can be called: {states or 'it has none'}")

    def _callable(self) -> str:
        numbers = sorted(number for number, found in self.versions.items() if found.state == AVAILABLE)
        listed = ", ".join(map(str, numbers)) or "none"
        return listed + (f" and the labels {', '.join(sorted(self.labels))}" if self.labels else "")


@shown_as_documented
class VersionLoading(ModelNotFound):
    """No version of the model can be called yet, but one is being loaded."""


def models_of(message: Mapping[str, Any]) -> dict[str, ModelInfo]:
    return {name: ModelInfo.from_message(name, fields) for name, fields in message.items()}


def _signatures(message: list[dict[str, Any]]) -> tuple[dict[str, SignatureInfo], dict[str, str]]:
    signatures, unusable = {}, {}
    for item in message:
        try:
            signatures[item["name"]] = SignatureInfo(
                item["id"],
                Signature.from_message(item),
                item.get("stateful", ""),
                item.get("max_run_seconds", 0.0),
            )
        except TypeError as error:
            unusable[item["name"]] = str(error)
    return signatures, unusable
