"""A slot's memory as the broker sees it: the worker's inputs, and the place of its answers.

All cached views of a region live in the region's object and end with it: a slot that gets another region gets another
object. Nothing has to be cleared by hand.
"""

from __future__ import annotations

from typing import Any

from broker.data_plane.prepared import PreparedRequest, PreparedStringRequest
from worker_client.wire.layout import ANSWER_SEQUENCE, ANSWER_SIGNATURE, OUTPUT_HEAD
from worker_client.wire.tensors import TensorLayout, views

_CACHED = 64  # prepared requests, and shapes of answers, that a region caches; a full cache is cleared

Key = tuple[int, bytes]
"""Key of a prepared request: SIGNATURE of the request line, and the tensor table."""
Shapes = tuple[Any, ...]
"""Key of an answer's places: number of the entry, and the shape of each output."""
Places = tuple[TensorLayout, tuple[Any, ...]]
"""The places of an answer's outputs: their layout, and a view of each."""


class InputRegion:
    """An input region with its prepared requests, whose feeds are views of this memory."""

    __slots__ = ("memory", "prepared_requests", "string_requests")

    def __init__(self, memory: memoryview) -> None:
        self.memory = memory
        self.prepared_requests: dict[Key, PreparedRequest] = {}
        self.string_requests: dict[Key, PreparedStringRequest] = {}  # separate, for speed

    def remember(self, key: Key, prepared: PreparedRequest) -> None:
        if len(self.prepared_requests) + len(self.string_requests) >= _CACHED:
            self.prepared_requests.clear()
            self.string_requests.clear()
        if isinstance(prepared, PreparedStringRequest):
            self.string_requests[key] = prepared
        else:
            self.prepared_requests[key] = prepared


class OutputRegion:
    """An output region, for the answers; `number` counts the regions that its slot has had, from 1."""

    __slots__ = ("head", "laid_out", "memory", "number", "places")

    def __init__(self, number: int, memory: memoryview) -> None:
        self.number = number
        self.memory = memory
        self.places: dict[Shapes, Places] = {}
        self.laid_out: TensorLayout | None = None  # the layout whose table is written after the head
        self.head = memory[:OUTPUT_HEAD].cast("Q")

    def places_for(self, layout: TensorLayout) -> Places:
        return layout, views(layout.placements, self.memory)

    def remember(self, shapes: Shapes, places: Places) -> None:
        if len(self.places) >= _CACHED:
            self.places.clear()
        self.places[shapes] = places

    def sign(self, use: int, signature_id: int) -> None:
        """Write into the head which request the answer belongs to."""
        head = self.head
        head[ANSWER_SEQUENCE] = use
        head[ANSWER_SIGNATURE] = signature_id

    def write(self, content: bytes) -> None:
        """Write a table, or a message, after the head."""
        self.memory[OUTPUT_HEAD : OUTPUT_HEAD + len(content)] = content
