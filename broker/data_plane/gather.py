"""Joins the feeds of several requests into aligned buffers, and separates the outputs again.

Padding, where the policy asks for it: up to an allowed batch size with copies of the first row (as TensorFlow Serving
does: the model accepts that row), and along ragged axes with the model's `pad_value`, or with empty strings.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from math import prod
from typing import Any, Protocol

import numpy as np

from broker.data_plane.served_signature import Ragged, ServedSignature
from broker.data_plane.strings import array_of
from broker.models.aligned import aligned_empty

_KEPT_BYTES = 256 << 20  # batch buffers, for each thread that runs models
_FREE_PADDING_BYTES = 1 << 20
_MOST_PADDING = 8  # times the bytes of the requests themselves


class Gatherable(Protocol):
    """The input of a gather: a PreparedRequest, or some rows of one."""

    served: ServedSignature
    feeds: tuple[np.ndarray, ...]
    rows: int
    group: Hashable
    ragged: Ragged


class Gatherer:
    """The batch buffers of one thread."""

    def __init__(self) -> None:
        self._buffers: dict[Hashable, list[np.ndarray]] = {}

    def join(self, prepared_requests: Sequence[Gatherable], size: int) -> list[np.ndarray]:
        """One feed of `size` rows for each input; rows that the requests do not fill are copies of the first row."""
        first = prepared_requests[0]
        if first.ragged:
            return _padded(prepared_requests, size)
        buffers = [buffer[:size] for buffer in self._buffers_for(first, size)]
        for number, buffer in enumerate(buffers):
            start = 0
            for prepared, feed in zip(prepared_requests, _feeds(prepared_requests, number)):
                end = start + prepared.rows
                buffer[start:end] = feed
                start = end
            if start < size:
                buffer[start:] = buffer[0]
        return buffers

    def _buffers_for(self, prepared: Gatherable, size: int) -> list[np.ndarray]:
        buffers = self._buffers.get(prepared.group)
        if buffers is None or len(buffers[0]) < size:
            size = max(size, prepared.served.batch_limit)
            buffers = [aligned_empty((size, *feed.shape[1:]), feed.dtype) for feed in prepared.feeds]
            if not prepared.served.takes_strings:  # the buffers would keep the strings alive
                self._keep(prepared.group, buffers)
        return buffers

    def _keep(self, group: Hashable, buffers: list[np.ndarray]) -> None:
        """Keep the buffers for the next batch of this group, within a limit, because workers choose how many groups
        there are."""
        self._buffers.pop(group, None)
        kept = sum(buffer.nbytes for kept in self._buffers.values() for buffer in kept)
        if kept + sum(buffer.nbytes for buffer in buffers) > _KEPT_BYTES:
            self._buffers.clear()
        self._buffers[group] = buffers


def padding_pays(prepared_requests: Sequence[Gatherable], size: int) -> bool:
    """Whether these requests should share a batch: a request much longer than the others would pad all of them to its
    length, many times the memory that they took."""
    if not prepared_requests[0].ragged:
        return True
    given = sum(feed.nbytes for prepared in prepared_requests for feed in prepared.feeds)
    padded = sum(
        size * prod(_longest(prepared_requests, number)) * feed.itemsize
        for number, feed in enumerate(prepared_requests[0].feeds)
    )
    return padded <= _FREE_PADDING_BYTES + _MOST_PADDING * given


def _longest(prepared_requests: Sequence[Gatherable], number: int) -> tuple[int, ...]:
    """The smallest row shape that holds a row of each request for this input."""
    shapes = [prepared.feeds[number].shape[1:] for prepared in prepared_requests]
    return tuple(map(max, *shapes, shapes[0]))


def _padded(prepared_requests: Sequence[Gatherable], size: int) -> list[np.ndarray]:
    """The feeds in buffers as long as the longest request along each ragged axis, filled with the pad value; rows that
    the requests do not fill are copies of the first row."""
    first = prepared_requests[0]
    value = first.served.pad_value
    buffers = []
    for number, feed in enumerate(first.feeds):
        inner = _longest(prepared_requests, number)
        buffer = aligned_empty((size, *inner), feed.dtype)
        buffer[...] = b"" if feed.dtype.hasobject else np.asarray(value).astype(feed.dtype)
        start = 0
        for prepared, array in zip(prepared_requests, _feeds(prepared_requests, number)):
            end = start + prepared.rows
            buffer[(slice(start, end), *map(slice, array.shape[1:]))] = array
            start = end
        if start < size:
            buffer[start:] = buffer[0]
        buffers.append(buffer)
    return buffers


def _feeds(prepared_requests: Sequence[Gatherable], number: int) -> list[Any]:
    """The feeds of one input; strings are read here."""
    feeds = [prepared.feeds[number] for prepared in prepared_requests]
    served = prepared_requests[0].served
    if served.takes_strings:
        name = served.entry.signature.inputs[number].name
        feeds = [array_of(name, feed) for feed in feeds]
    return feeds


def cut(
    prepared_requests: Sequence[Gatherable], feeds: Sequence[np.ndarray], outputs: Sequence[np.ndarray]
) -> Iterator[Sequence[np.ndarray]]:
    """For each request, its rows of every output, without the padding."""
    start = 0
    if len(outputs) == 1 and not prepared_requests[0].ragged:  # the case of most models
        (output,) = outputs
        for prepared in prepared_requests:
            end = start + prepared.rows
            yield (output[start:end],)
            start = end
        return
    for prepared in prepared_requests:
        end = start + prepared.rows
        mine = [output[start:end] for output in outputs]
        yield _trimmed(prepared, feeds, mine) if prepared.ragged else mine
        start = end


def _trimmed(
    prepared: Gatherable, feeds: Sequence[np.ndarray], outputs: list[np.ndarray]
) -> list[np.ndarray]:
    """The outputs without the padding of ragged axes, so that an answer does not depend on the requests it was joined
    with: an output's free axis that has the padded length of the same axis of an input is cut to that input's own
    length."""
    own: dict[tuple[int, int], set[int]] = {}
    for axes, feed, padded in zip(prepared.ragged, prepared.feeds, feeds):
        for axis in axes:
            own.setdefault((axis, padded.shape[axis]), set()).add(feed.shape[axis])
    trimmed = []
    for spec, output in zip(prepared.served.entry.signature.outputs, outputs):
        index = [slice(None)] * output.ndim
        for axis in range(1, output.ndim):
            lengths = own.get((axis, output.shape[axis]), set())
            free = spec.shape is None or spec.shape[axis] is None
            if free and len(lengths) == 1:
                index[axis] = slice(*lengths)
        trimmed.append(output[tuple(index)])
    return trimmed
