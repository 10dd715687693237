"""One version of one model on its way: START -> LOADING -> AVAILABLE -> UNLOADING -> END, each with its cause.

The states are TensorFlow Serving's (`core/servable_state.h`); END is also where a version stands that could not be
loaded, with the reason.
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
    """Found, and wanted."""
    LOADING = "LOADING"
    """It is being loaded and warmed; nobody can call it yet."""
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    """No new request gets to it; those it has are finished."""
    END = "END"
    """Unloaded, or never loaded: the cause tells."""


@dataclass(slots=True, eq=False)
class Version:
    """`spec` is the model's, with this version's own source. Changed under the repository's lock."""

    number: int
    spec: ModelSpec
    fingerprint: str = ""
    is_numbered: bool = False
    """Whether the number is that of a folder; else it counts the loads of the source."""
    state: VersionState = VersionState.START
    cause: str = ""
    since: float = field(default_factory=time)
    """When it came into its state, in seconds since 1970."""
    model: LoadedModel | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    ad_hoc: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[Entry, tuple[str, ...]]] = field(
        default_factory=dict
    )
    memory_bytes: int | None = None
    """By how much the broker's process grew while it was loaded and warmed."""

    failed: bool = False
    abandoned: bool = False
    """Its load had no end: a thread still works on it, whose model it is."""
    set_aside: bool = False
    """It ended the broker's process again and again, so it is not loaded unless somebody asks for it."""

    def enter(self, state: VersionState, cause: str = "") -> None:
        self.state = state
        self.cause = cause
        self.since = time()

    @property
    def is_available(self) -> bool:
        return self.state is VersionState.AVAILABLE

    def __repr__(self) -> str:
        return f"<Version {self.number} of {self.spec.name}, {self.state.value}>"
