"""The orders for the loader, and their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.models.lifecycle.served_model import ServedModel
from broker.models.spec import is_label
from broker.models.version_policy import Policy
from worker_client.wire.errors import BrokerError, InvalidInput

Done = Callable[[Mapping[str, Any] | BrokerError], None]


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """An order to bring these models up to date, or all models; optionally with a new policy or new labels."""

    done: Done
    models: tuple[str, ...] = ()
    policy: Policy | None = None
    labels: Mapping[str, int] = field(default_factory=dict)


def order_of(message: Mapping[str, Any], done: Done) -> LoadOrder:
    """The order in a peer's message: {"models": [name], "versions": policy, "labels": {label: version}}, all optional.

    Raises InvalidInput.
    """
    models, versions, labels = (message.get(field) for field in ("models", "versions", "labels"))
    names = [] if models is None else models
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidInput(f"models must be a list of names, got {str(models)[:80]!r}")
    try:
        policy = None if versions is None else Policy.of(versions)
    except ValueError as error:
        raise InvalidInput(f"versions: {str(error)[:200]}") from None
    found = {} if labels is None else labels
    if not isinstance(found, dict) or not all(is_label(*item) for item in found.items()):
        raise InvalidInput(f"labels must be a mapping of names to version numbers, got {str(labels)[:80]!r}")
    return LoadOrder(done, tuple(names), policy, found)


@dataclass(slots=True)
class LoadOutcome:
    """The outcome of an order for one model."""

    loaded: list[int] = field(default_factory=list)
    unloaded: list[int] = field(default_factory=list)
    draining: list[int] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    note: str = ""

    def to_message(self, served: ServedModel) -> dict[str, Any]:
        default = served.default
        return {
            "version": None if default is None else default.number,
            "loaded": self.loaded,
            "unloaded": self.unloaded,
            "draining": self.draining,
            "failed": {str(number): cause for number, cause in self.failed.items()},
            "note": self.note,
        }
