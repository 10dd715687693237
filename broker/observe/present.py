"""Adds the present state, light or heavy, to the description of models: the repository only knows the result of
warm-up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from broker.data_plane.served_signature import ServedSignature

Message = dict[str, Any]


def with_present_state(
    models: Mapping[str, Message], served_signatures: Sequence[ServedSignature | None]
) -> dict[str, Message]:
    """Write `light` and `why` into new `models`: for each signature, and for each part that has a default signature."""
    for info in models.values():
        for described in _parts(info):
            described.setdefault("why", "")
            for signature in described["signatures"]:
                number = signature["id"]
                served = served_signatures[number] if number < len(served_signatures) else None
                signature["why"] = "" if served is None else served.why
                if served is not None:
                    signature["light"] = served.light
                if signature["name"] == described["default_signature"]:
                    described["light"], described["why"] = signature["light"], signature["why"]
    return dict(models)


def _parts(info: Message) -> Iterator[Message]:
    """The parts that list signatures: the model, its versions, its labels."""
    yield info
    yield from info["versions"]
    yield from info["labels"].values()
