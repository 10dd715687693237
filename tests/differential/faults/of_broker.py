"""Faults of the broker's process, each put back in the place of the code that prevents it now."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from tests.differential.faults.fault import Fault, Side, now_and_then, wrap

_SIMPLE = ("predict", "request", "submit", "mapped")


def _module(name: str) -> Any:
    return importlib.import_module(f"broker.{name}")


def stale_view() -> None:
    """A larger output region still uses the cached positions of the old one."""

    def grow(original: Any, slot: Any, nbytes: int) -> None:
        before = slot.output
        original(slot, nbytes)
        slot.output.places.update(before.places)

    wrap(_module("data_plane.slot").Slot, "_grow_output", grow)


def touched_after_hand_back() -> None:
    """An error is raised while a batch is counted, and the requests that its slots hold by then fail."""
    runner = _module("data_plane.runner")
    due = now_and_then(20)

    def run_joined(original: Any, *args: Any) -> None:
        original(*args)
        if due():
            raise ZeroDivisionError("integer division or modulo by zero")

    def give_up(original: Any, request: Any, use: int, error: Exception) -> None:
        if request.busy:
            original(request, request.use, error)

    wrap(runner.Runner, "_run_joined", run_joined)
    wrap(runner, "_give_up", give_up)


def dependent_rows_joined() -> None:
    """All requests with a free first dimension are joined, and no answers are compared."""
    entry = _module("models.lifecycle.entry")
    decision = _module("models.rows.joining").Decision
    structure = _module("models.rows.independence").structure
    entry.decide = lambda model, name, *_: decision(structure(model.signatures[name]))
    entry.Entry.keep_apart = lambda *_: None


def state_warmed_up() -> None:
    """No signature is known to write anything, so all of them are warmed up."""
    _module("models.effects.signature_effects").described = lambda graph, endpoints: dict.fromkeys(
        endpoints, ""
    )


def posted_twice() -> None:
    """The completion of a use is posted again when the next use begins."""
    due = now_and_then(100)

    def accept(original: Any, slot: Any, *args: Any) -> bool:
        taken = bool(original(slot, *args))
        if taken and due():
            slot.words[_module("data_plane.slot").DONE] = slot.use
            slot.completed.release()
        return taken

    wrap(_module("data_plane.slot").Slot, "accept", accept)


def late_answer() -> None:
    """A use gets the outputs of the use before."""
    due = now_and_then(100)
    last: dict[tuple[int, int], Any] = {}

    def complete(original: Any, slot: Any, use: int, outputs: Any, *times: int) -> Any:
        key = slot.channel.number, slot.index
        before, last[key] = last.get(key), [np.array(output) for output in outputs]
        if before is not None and due() and _shapes(before) == _shapes(outputs):
            outputs = before
        return original(slot, use, outputs, *times)

    wrap(_module("data_plane.slot").Slot, "complete", complete)


def _shapes(outputs: Any) -> list[Any]:
    return [(output.shape, output.dtype) for output in outputs]


def wrong_offset() -> None:
    """The rows of a joined batch are split one row too early."""
    due = now_and_then(10)

    def cut(original: Any, plans: Any, feeds: Any, outputs: Any) -> Any:
        if len(plans) > 1 and due():
            outputs = [np.roll(output, 1, axis=0) for output in outputs]
        return original(plans, feeds, outputs)

    wrap(_module("data_plane.runner"), "cut", cut)


def padded_row() -> None:
    """The last request of a padded batch gets the padding, too."""

    def cut(original: Any, plans: Any, feeds: Any, outputs: Any) -> Any:
        mine = list(original(plans, feeds, outputs))
        rows = sum(plan.rows for plan in plans)
        if rows < len(outputs[0]):
            mine[-1] = [output[rows - plans[-1].rows :] for output in outputs]
        return mine

    wrap(_module("data_plane.runner"), "cut", cut)


def padded_width() -> None:
    """Nothing is cut off along the axis that was padded to the longest request of a batch."""
    _module("data_plane.gather")._trimmed = lambda plan, feeds, outputs: outputs


def swapped_regions() -> None:
    """Two slots of a block write into each other's output region."""

    def add_block(original: Any, channel: Any, *args: Any) -> Any:
        first = len(channel.slots)
        block = original(channel, *args)
        one, other = channel.slots[first : first + 2]
        one.output, other.output = other.output, one.output
        return block

    wrap(_module("data_plane.channel").Channel, "_add_block", add_block)


FAULTS = (
    Fault("stale_view", Side.BROKER, stale_view, ("text_to_numbers",), _SIMPLE),
    Fault("touched_after_hand_back", Side.BROKER, touched_after_hand_back, ("rows", "zero_rows"), _SIMPLE),
    Fault("dependent_rows_joined", Side.BROKER, dependent_rows_joined, ("ranking", "running_sums"), _SIMPLE),
    Fault("state_warmed_up", Side.BROKER, state_warmed_up, ("counter",), _SIMPLE),
    Fault("posted_twice", Side.BROKER, posted_twice, ("rows", "mixed"), _SIMPLE),
    Fault("late_answer", Side.BROKER, late_answer, ("rows", "mixed"), _SIMPLE),
    Fault("wrong_offset", Side.BROKER, wrong_offset, ("rows", "mixed"), _SIMPLE),
    Fault("padded_row", Side.BROKER, padded_row, ("padded_rows",), _SIMPLE),
    Fault("padded_width", Side.BROKER, padded_width, ("padded_rows",), _SIMPLE),
    Fault("swapped_regions", Side.BROKER, swapped_regions, ("rows", "mixed"), _SIMPLE),
)
