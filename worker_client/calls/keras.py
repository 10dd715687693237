"""`predict` as in Keras: with a `batch_size` the inputs are sent as several requests, a few at a time.

Follows `keras.Model.predict(x, batch_size=None, verbose="auto", steps=None, callbacks=None)` of Keras 2 and 3.
Arguments only affect the answer here; the broker decides how batches are run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import index
from typing import Any

import numpy as np

from worker_client.calls.fetches import WrongType
from worker_client.calls.inputs import InputValidator
from worker_client.system import limits
from worker_client.wire.errors import InvalidInput
from worker_client.wire.strings import Strings

IN_FLIGHT = 8
"""How many parts of one call are under way at a time: enough to keep a broker busy, and little memory."""

_OF_KERAS = {
    "callbacks": "they cannot run in the broker's process; iterate over model.map(batches) and call them here",
    "max_queue_size": "leave it out; model.map(batches, max_in_flight=...) takes a generator",
    "workers": "leave it out; model.map(batches, max_in_flight=...) takes a generator",
    "use_multiprocessing": "leave it out; model.map(batches, max_in_flight=...) takes a generator",
}


class Parts:
    """The inputs of one call, cut into batches. It does not know the broker: the code that made it sends the parts.

    Raises InvalidInput for inputs without rows to cut along, and for arguments that only Keras supports (WrongType for
    arguments that `predict` does not know).
    """

    def __init__(
        self,
        validator: InputValidator,
        inputs: Any,
        batch_size: Any,
        steps: Any,
        callbacks: Any,
        others: Mapping[str, Any],
    ) -> None:
        _refuse({**others, **({} if callbacks is None else {"callbacks": callbacks})})
        given = validator.given(inputs)
        fitted = dict(zip(validator.names, map(_sliceable, validator.prepare(inputs)[0])))
        # the other inputs have their defaults in each part
        self._arrays = {name: fitted[name] for name in given}
        self._one_output = len(validator.signature.outputs) == 1 and not isinstance(inputs, Mapping)
        counts = [array.shape[0] if array.ndim else 1 for array in self._arrays.values()]
        self._rows = max(counts, default=0)
        self._size = _size(batch_size, steps, self._rows)
        self.whole = self._rows <= self._size  # the call may be sent as it is
        if not self.whole:
            _check_rows(validator, given, counts, self._size)
        if steps is not None:
            self._rows = min(self._rows, steps * self._size)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, self._rows, self._size):
            end = min(start + self._size, self._rows)
            yield {name: array[start:end] for name, array in self._arrays.items()}

    def __len__(self) -> int:
        """How many requests it takes."""
        return 1 if self.whole else -(-self._rows // self._size)

    def join(self, answers: Iterable[Mapping[str, np.ndarray]]) -> Any:
        """The answers to the parts, in order, joined to one answer."""
        several = list(answers)
        try:
            joined = {name: np.concatenate([answer[name] for answer in several]) for name in several[0]}
        except MemoryError as error:
            raise limits.no_memory(error) from None
        return next(iter(joined.values())) if self._one_output else joined


def _sliceable(tensor: Any) -> np.ndarray:
    """An array that can be sliced. Strings, which are already encoded, become an array of bytes objects again."""
    if isinstance(tensor, Strings):
        return np.array(tensor.items, object).reshape(tensor.shape)
    return np.asarray(tensor)


def check_call(training: Any, mask: Any) -> None:
    """Raises InvalidInput for `model(x, training=True)` and for a mask."""
    if training:
        raise InvalidInput(
            "training=True is not supported: the broker serves the model as it was exported; leave it out"
        )
    if mask is not None:
        raise InvalidInput("mask is not an input of the served model; leave it out, or export it as one")


def _refuse(arguments: Mapping[str, Any]) -> None:
    for name in arguments:
        if name not in _OF_KERAS:
            raise WrongType(
                f"predict() got an unexpected keyword argument {name!r}; it takes batch_size, steps, verbose, timeout"
            )
        raise InvalidInput(
            f"predict({name}=...) is supported only by Keras, not by the broker: {_OF_KERAS[name]}"
        )


def _size(batch_size: Any, steps: Any, rows: int) -> int:
    """Rows of a batch. Without a `batch_size` all rows are cut into `steps` batches, as in Keras, or are one batch."""
    parts = 1 if steps is None else _whole("steps", steps)
    return max(1, -(-rows // parts)) if batch_size is None else _whole("batch_size", batch_size)


def _whole(name: str, value: Any) -> int:
    try:
        number = index(value)
    except TypeError:
        number = 0
    if number < 1:
        hint = "; a timeout is given by name: timeout=..." if isinstance(value, float) else ""
        raise InvalidInput(f"{name} must be an integer >= 1, got {value!r}{hint}")
    return number


def _check_rows(validator: InputValidator, names: Sequence[str], counts: list[int], size: int) -> None:
    if not validator.signature.batchable_along(names):
        raise InvalidInput(
            f"{validator.label} cannot be run in batches of {size}, because not every input and output has a free "
            f"first dimension that counts rows ({validator.signature}); leave batch_size and steps out"
        )
    if len(set(counts)) > 1:
        counted = ", ".join(f"{name!r} {count}" for name, count in zip(names, counts))
        raise InvalidInput(f"{validator.label}: all inputs must have the same number of rows, got {counted}")
