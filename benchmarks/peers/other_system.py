"""A peer: another way to have a model's answers in several workers, what it needs, and the arms it is measured as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import modules


@dataclass(frozen=True)
class SystemSetting:
    """What all peers of a run have in common. `model` is the SavedModel, or None where `workload` needs none."""

    workload: str
    model: str | None
    directory: str


Options = Callable[[SystemSetting, int], dict[str, Any]]
"""An arm's options, from the setting and the number of intra-op threads."""


@dataclass(frozen=True)
class Way:
    """One way to call a peer: an arm for each number of workers and of threads. `factory` as in `harness.arm.Arm`.

    `workloads` are the workloads that it can answer.
    """

    name: str
    label: str
    factory: str
    options: Options
    workloads: tuple[str, ...] = ("mlp", "mobilenet", "head")


@dataclass(frozen=True)
class OtherSystem:
    """`requirements` are pinned, and go into an environment of the peer's own; without any it runs in ours.

    `imports` are the modules without which it cannot run in ours. Without `dependencies` the requirements are all that
    is installed, and ours has what they need.
    """

    name: str
    label: str
    ways: tuple[Way, ...]
    requirements: tuple[str, ...] = ()
    dependencies: bool = True
    imports: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """Its pinned requirements; empty where it needs no environment of its own."""
        return ", ".join(self.requirements)

    def missing(self) -> str | None:
        """Which module this environment lacks for it, if any."""
        why = (modules.missing(module, "--group dev") for module in self.imports)
        return next(filter(None, why), None)
