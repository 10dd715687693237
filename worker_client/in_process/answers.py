"""The broker's half of a request: reads the inputs of a slot, and writes the outputs, or an error, into it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from worker_client.attachment.region import OutputRegion
from worker_client.attachment.slot import Slot
from worker_client.system.clock import monotonic_ns
from worker_client.wire.errors import STATUS_OK, BrokerError, InvalidInput, ModelFailed, status_of
from worker_client.wire.layout import (
    ANSWER_SEQUENCE,
    ANSWER_SIGNATURE,
    BATCH_ROWS,
    COMPLETED_NS,
    FINISHED_NS,
    INPUT_BYTES,
    LINE,
    OUTPUT_BYTES,
    OUTPUT_HEAD,
    OUTPUT_REGION,
    STARTED_NS,
    STATUS,
    size_class,
)
from worker_client.wire.strings import encode, place_behind
from worker_client.wire.tensors import lay_out, read_table, views

Run = Callable[[Sequence[Any]], Sequence[Any]]


def answer(slot: Slot, label: str, run: Run) -> None:
    """Run it on the slot's inputs. `label` names model and signature in errors, as a broker does."""
    words = slot.words
    try:
        table = slot.input.memory[: words[INPUT_BYTES]].tobytes()
        feeds = views(read_table(table, slot.input.nbytes), slot.input.memory)
        words[BATCH_ROWS] = feeds[0].shape[0] if feeds and feeds[0].ndim else 1
        words[STARTED_NS] = monotonic_ns()
        outputs = run(feeds)
        words[FINISHED_NS] = monotonic_ns()
        _write(slot, outputs)
    except Exception as error:
        failure = error if isinstance(error, BrokerError) else ModelFailed(f"{type(error).__name__}: {error}")
        refuse(slot, label, failure)


def refuse(slot: Slot, label: str, error: BrokerError) -> None:
    """Write the error in place of outputs."""
    named = label and isinstance(error, (InvalidInput, ModelFailed))
    text = (f"{label}: {error}" if named else str(error)).encode("utf-8", "replace")
    _make_room(slot, OUTPUT_HEAD + len(text))
    _finish(slot, status_of(error), text)


def _write(slot: Slot, outputs: Sequence[Any]) -> None:
    try:
        tensors: list[Any] = [encode(each) if _is_objects(each) else each for each in outputs]
        layout = lay_out([(tensor.dtype, tensor.shape) for tensor in tensors], OUTPUT_HEAD)
    except (TypeError, ValueError) as error:
        raise ModelFailed(f"the model's outputs cannot be sent: {error}") from None
    _make_room(slot, place_behind(layout.nbytes, tensors))
    for view, tensor in zip(views(layout.placements, slot.output.memory), tensors):
        view[...] = tensor
    _finish(slot, STATUS_OK, layout.table)


def _is_objects(output: Any) -> bool:
    return isinstance(output, np.ndarray) and output.dtype.hasobject


def _finish(slot: Slot, status: int, table: bytes) -> None:
    words, region = slot.words, slot.output
    region.head[ANSWER_SEQUENCE] = slot.sequence
    region.head[ANSWER_SIGNATURE] = slot.signature_id
    region.body[: len(table)] = table
    words[STATUS] = status
    words[OUTPUT_BYTES] = len(table)
    words[OUTPUT_REGION] = region.number
    words[COMPLETED_NS] = monotonic_ns()


def _make_room(slot: Slot, nbytes: int) -> None:
    """Another, larger region, as a broker binds one. Views of the first keep that."""
    if nbytes > len(slot.output.memory):
        slot.output = OutputRegion(slot.output.number + 1, memory(size_class(nbytes)))


def memory(nbytes: int) -> memoryview:
    """Zeros that begin at a line's start, as in a segment: TensorFlow then takes tensors where they are."""
    room: Any = np.zeros(nbytes + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    return memoryview(room[start : start + nbytes])
