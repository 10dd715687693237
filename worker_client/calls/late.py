"""The message of a call whose timeout has passed: which call it was, and how far it got."""

from __future__ import annotations

from collections.abc import Sequence

from worker_client.wire.layout import JOINED, STARTED_NS, SUBMITTED_NS, TAKEN_NS


def how_late(words: Sequence[int] | memoryview, label: str, now: int) -> str:
    """The message, from the words of the slot's header. `label` names model and signature, "" where unknown."""
    waited_ms = (now - words[SUBMITTED_NS]) / 1e6
    started_ns = words[STARTED_NS] & ~JOINED
    if started_ns >= words[SUBMITTED_NS]:
        where = f"and the model has been running it for {(now - started_ns) / 1e6:.0f} ms"
    elif words[TAKEN_NS] >= words[SUBMITTED_NS]:
        where = "all of it in the model's queue behind other calls"
    else:
        where = "and the broker has not taken it yet"
    what = f"{label}{label and ': '}no answer within the call's timeout"
    return f"{what}; waited {waited_ms:.0f} ms, {where}"
