"""Strings between slots and models. A slot has views of strings: the thread that runs the request reads them, so that
the intake does not copy long strings for a heavy model, and encodes the strings of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from broker.models.model import Run
from worker_client.wire.errors import InvalidInput, ModelFailed
from worker_client.wire.signature import Signature
from worker_client.wire.strings import Strings, StringView, encode


def run_of(run: Run, signature: Signature) -> Run:
    """`run` for the feeds of slots, whose strings are views."""
    if not signature.takes_strings:
        return run
    names = tuple(spec.name for spec in signature.inputs)

    def read_and_run(*feeds: Any) -> Sequence[np.ndarray]:
        return run(*[array_of(name, feed) for name, feed in zip(names, feeds)])

    return read_and_run


def array_of(name: str, feed: np.ndarray | StringView) -> np.ndarray:
    """A feed as an array. Raises InvalidInput for strings that a worker has not encoded correctly."""
    if not isinstance(feed, StringView):
        return feed
    try:
        return feed.read()
    except ValueError as error:
        raise InvalidInput(f"input {name!r} cannot be read: {error}") from None


def encoded(outputs: Sequence[np.ndarray], signature: Signature) -> list[np.ndarray | Strings]:
    """The outputs with Strings in place of arrays of objects. Raises ModelFailed."""
    made: list[np.ndarray | Strings] = []
    for spec, output in zip(signature.outputs, outputs):
        try:
            made.append(encode(output) if output.dtype.hasobject else output)
        except (TypeError, ValueError) as error:
            raise ModelFailed(f"the model's output {spec.name!r} cannot be sent: {error}") from None
    return made
