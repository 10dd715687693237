"""Checks signatures whose requests are joined: runs a sample of requests again separately, and compares the answers.

Made-up requests may differ from real ones. Where real rows depend on each other, nearly every joined run shows it: so
the first runs are checked, then fewer and fewer. Checks never take more than a part of the model's computing time, nor
the time that a request has left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from broker.data_plane.strings import array_of
from broker.models.lifecycle.entry import Entry
from broker.models.rows.closeness import same_rows, same_shapes
from broker.models.rows.rounding import rounding_explains

FIRST_RUNS = 64
SECONDS = 300
_MOST_REQUESTS = 3  # checked per run
_SHARE = 4  # a check may take as long as a quarter of all joined runs took
_FREE_NS = 20_000_000  # time for checks in any case
_SPARE = 20  # runs that must fit into the time that a request has left


class JoinedRequest(Protocol):
    """A prepared request, or some rows of one, that ran in one batch with others."""

    feeds: tuple[np.ndarray, ...]
    rows: int
    ragged: Any


class Evidence:
    """The checks of one signature. If several threads count at the same time, one count may be lost."""

    __slots__ = ("checked", "joined_ns", "runs", "spent_ns", "until_ns")

    def __init__(self) -> None:
        self.runs = 0
        self.checked = 0
        self.joined_ns = 0
        self.spent_ns = 0
        self.until_ns = 0

    def __repr__(self) -> str:
        return f"<Evidence, {self.checked} of {self.runs} joined runs checked>"

    def due(self, run_ns: int, now_ns: int, deadline_ns: int) -> bool:
        """Whether to check this joined run: one of the first, or the 128th, 256th, 512th and so on."""
        self.runs = runs = self.runs + 1
        if runs > FIRST_RUNS and runs & (runs - 1):
            return False
        self.joined_ns += run_ns
        self.until_ns = self.until_ns or now_ns + SECONDS * 1_000_000_000
        if now_ns > self.until_ns or deadline_ns - now_ns < _SPARE * run_ns:
            return False
        return self.spent_ns <= _FREE_NS + self.joined_ns // _SHARE

    def difference(
        self,
        entry: Entry,
        joined: Sequence[JoinedRequest],
        answers: Sequence[Sequence[np.ndarray]],
    ) -> str:
        """How the answers of a joined run differ from those that some of its requests get alone; "" if they do not."""
        if joined[0].ragged:  # padded: visible, but harmless by the model's settings
            return ""
        self.checked += 1
        for number in sorted({0, self.checked % len(joined), len(joined) - 1})[:_MOST_REQUESTS]:
            reason = _difference(entry, joined[number], answers[number])
            if reason:
                return reason
        return ""


def _difference(entry: Entry, request: JoinedRequest, joined: Sequence[np.ndarray]) -> str:
    specs = entry.signature.inputs
    feeds: tuple[Any, ...] = tuple(array_of(spec.name, feed) for spec, feed in zip(specs, request.feeds))
    try:
        alone = entry.run(*feeds)
        if not same_shapes(alone, joined, request.rows):
            return "an answer had another shape when joined with other requests than alone"
        for spec, mine, other in zip(entry.signature.outputs, alone, joined):
            if not same_rows(mine, other).all():
                if rounding_explains(entry.run, feeds, alone, joined):
                    return ""
                return f"an answer differed when joined with other requests (output {spec.name!r})"
    except Exception as error:
        return f"a request failed alone that succeeded when joined with others: {str(error)[:200]}"
    return ""
