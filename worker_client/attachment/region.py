"""A slot's memory as the worker sees it: an input region to write and an output region to read.

Everything cached about positions in a region is kept in its object and discarded with it: a slot that gets another
region gets another object. Nothing has to be cleared by hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from worker_client.wire.layout import INPUT_BYTES, OUTPUT_HEAD
from worker_client.wire.strings import StringView
from worker_client.wire.tensors import TensorLayout, read_table, views

_CACHED = 64  # layouts that a region remembers; one more clears the cache


class InputRegion:
    """The region into which the inputs of a slot are written."""

    __slots__ = ("_layout", "_views", "_words", "memory", "nbytes")

    def __init__(self, memory: memoryview, words: memoryview) -> None:
        """`words` are the words of the slot's header."""
        self.nbytes = len(memory)
        self.memory = memory
        self._words = words
        self._layout: TensorLayout | None = None  # the layout whose table is at the head
        self._views: dict[TensorLayout, tuple[Any, ...]] = {}

    def write_layout(self, layout: TensorLayout) -> tuple[Any, ...]:
        """Views into which the inputs are written, arrays and StringViews, for a layout that fits. Writes the layout's
        table, and its length into the request line, unless they are already there."""
        arrays = self._views.get(layout)
        if arrays is None:
            if len(self._views) >= _CACHED:
                self._views.clear()
            arrays = self._views[layout] = views(layout.placements, self.memory)
        if self._layout is not layout:
            self.memory[: len(layout.table)] = layout.table
            self._words[INPUT_BYTES] = len(layout.table)
            self._layout = layout
        return arrays


class OutputRegion:
    """The region in which the answers of a slot arrive. The broker numbers the regions from 1."""

    __slots__ = ("_strings", "arrays", "body", "head", "memory", "number")

    def __init__(self, number: int, memory: memoryview) -> None:
        self.number = number
        self.head = memory[:OUTPUT_HEAD].cast("Q")
        """Which request the answer belongs to: ANSWER_SEQUENCE, ANSWER_SIGNATURE."""
        self.body = memory[OUTPUT_HEAD:]
        """The table, or the error message, and the tensors."""
        self.arrays: dict[bytes, tuple[np.ndarray, ...]] = {}
        """By table: the views of outputs that include no strings."""
        self.memory = memory
        # views of outputs that include strings, which are read each time
        self._strings: dict[bytes, tuple[Any, ...]] = {}

    def read(self, table: bytes) -> tuple[np.ndarray, ...]:
        """The outputs that a new table, or a table with strings, describes. Raises ValueError."""
        found = self._strings.get(table)
        if found is None:
            found = views(read_table(table, len(self.memory), OUTPUT_HEAD), self.memory)
            self._remember(table, found)
        return tuple([view.read() if isinstance(view, StringView) else view for view in found])

    def _remember(self, table: bytes, found: tuple[Any, ...]) -> None:
        known: dict[bytes, tuple[Any, ...]] = self.arrays
        for view in found:
            if isinstance(view, StringView):
                known = self._strings
            else:
                view.flags.writeable = False
        if len(known) >= _CACHED:
            known.clear()
        known[table] = found
