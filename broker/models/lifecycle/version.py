"""One version of one model and its states: START -> LOADING -> AVAILABLE -> UNLOADING -> END, each with its cause.

The states are TensorFlow Serving's (`core/servable_state.h`); a version that could not be loaded is also in END, with
the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from time import time

from broker.models.lifecycle.entry import Entry
from broker.models.model import LoadedModel
from broker.models.spec import ModelSpec


class VersionState(Enum):
    START = "START"
    """It was found, and is wanted."""
    LOADING = "LOADING"
    """It is being loaded and warmed up; it cannot be called yet."""
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    """It gets no new requests, and finishes those that it has."""
    END = "END"
    """It was unloaded, or never loaded; the cause tells which."""


@dataclass(slots=True, eq=False)
class Version:
    """One version. `spec` is the model's spec with this version's own source. Changed under the repository's lock."""

    number: int
    spec: ModelSpec
    fingerprint: str = ""
    is_numbered: bool = False
    """Whether the number is the name of a folder; otherwise it counts the loads of the source."""
    state: VersionState = VersionState.START
    cause: str = ""
    since: float = field(default_factory=time)
    """When it entered its state, in seconds since 1970."""
    model: LoadedModel | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    ad_hoc: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[Entry, tuple[str, ...]]] = field(
        default_factory=dict
    )
    memory_bytes: int | None = None
    """How much the broker's process grew while it was loaded and warmed up."""

    failed: bool = False
    abandoned: bool = False
    """Whether its load was abandoned: a thread still works on it, and owns the model."""
    set_aside: bool = False
    """Whether it ended the broker's process repeatedly, so that only a reload command loads it."""

    def enter(self, state: VersionState, cause: str = "") -> None:
        self.state = state
        self.cause = cause
        self.since = time()

    @property
    def is_available(self) -> bool:
        return self.state is VersionState.AVAILABLE

    def __repr__(self) -> str:
        return f"<Version {self.number} of {self.spec.name}, {self.state.value}>"
