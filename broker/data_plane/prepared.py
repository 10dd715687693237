"""Prepared requests: the checked request table of a slot, ready to run again whenever the same table comes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod
from typing import Any

from broker.data_plane.served_signature import Ragged, ServedSignature
from worker_client.wire.dtypes import name_of
from worker_client.wire.errors import InvalidInput
from worker_client.wire.signature import Signature, TensorSpec, format_shape
from worker_client.wire.tensors import Placement

_MAX_FREE = 1 << 20
"""Limit for the free dimensions of a tensor without elements, which costs its worker no memory."""


class PreparedRequest:
    """A checked request shape of one slot: ready to run again whenever the same table comes."""

    __slots__ = ("entry_id", "feeds", "group", "level", "nbytes", "ragged", "rows", "served")

    def __init__(self, served: ServedSignature, level: int, feeds: tuple[Any, ...]) -> None:
        self.served = served
        self.level = level
        self.feeds = feeds
        self.nbytes: int = sum(feed.nbytes for feed in feeds)
        shared = {feed.shape[0] if feed.ndim else 0 for feed in feeds}
        self.rows = feeds[0].shape[0] if feeds and feeds[0].ndim else 1
        joinable = served.entry.batchable and len(shared) == 1
        self.ragged: Ragged = served.ragged if joinable else ()
        self.group: Hashable = served.group(*_row_shapes(feeds, self.ragged)) if joinable else None
        self.entry_id = served.entry.id


class PreparedStringRequest(PreparedRequest):
    """A prepared request with strings among its feeds, which are StringViews and have another size with each
    request."""

    __slots__ = ()

    def measure(self) -> PreparedRequest:
        """Set the size of the request that is in the slot now."""
        self.nbytes = sum(feed.nbytes for feed in self.feeds)
        return self


def _row_shapes(feeds: Sequence[Any], ragged: Ragged) -> list[tuple[int | None, ...]]:
    """The shape of a row of each feed, None along the ragged axes."""
    if not ragged:
        return [feed.shape[1:] for feed in feeds]
    return [
        tuple(None if axis in axes else size for axis, size in enumerate(feed.shape) if axis)
        for axes, feed in zip(ragged, feeds)
    ]


def check_against(signature: Signature, placements: tuple[Placement, ...]) -> None:
    """Check the tensors against the signature. The worker's own check may be missing, or of an older model."""
    specs = signature.inputs
    if len(placements) != len(specs):
        raise InvalidInput(f"{signature.name!r} takes {len(specs)} inputs, got {len(placements)}")
    for spec, placement in zip(specs, placements):
        if placement.dtype != spec.dtype or not spec.accepts(placement.shape):
            raise InvalidInput(
                f"input {spec.name!r} expects {spec}, got "
                f"{name_of(placement.dtype)}{format_shape(placement.shape)}"
            )
        if 0 in placement.shape and _free_elements(spec, placement.shape) > _MAX_FREE:
            raise InvalidInput(
                f"input {spec.name!r} has no elements and the dimensions {format_shape(placement.shape)}"
            )


def _free_elements(spec: TensorSpec, shape: tuple[int, ...]) -> int:
    """The number of elements along the dimensions that the worker chose; an empty dimension counts as one element."""
    wanted = spec.shape or (None,) * len(shape)
    return prod(max(size, 1) for size, want in zip(shape, wanted) if want is None)
