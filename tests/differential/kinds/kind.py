"""A kind of model: its SavedModel, requests that can be told apart, and what the answer to each must be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from tests.differential.draw import Draw

Tensors = Mapping[str, Any]
Function = Callable[..., Any]

NUMBERS = 1 << 15
"""Calls of one thread after which its tags begin again."""
CALLERS = 32
ROWS = (1, 1, 1, 2, 3, 4, 5, 8, 17)


def tag_of(caller: int, number: int) -> int:
    """An integer that is the request's own, small enough for float32 with four bits to spare."""
    return (caller % CALLERS) * NUMBERS + number % NUMBERS


def owner_of(value: float) -> str:
    """The request that a value comes from, if it is found where another value was expected."""
    return f"caller {int(value) // NUMBERS}, call {int(value) % NUMBERS}"


def marked(tag: int, *shape: int) -> np.ndarray:
    """float32 whose every element is of this request, and whose rows differ: tag + sixteenths, exact when doubled."""
    count = 1
    for size in shape:
        count *= size
    steps = np.arange(count)
    return (tag + (5 * steps + steps // 16) % 16 / 16.0).astype(np.float32).reshape(shape)


class Kind(ABC):
    """`name` in plans; `model` and `signature` under which it is served, and exported together with others."""

    name: ClassVar[str]
    model: ClassVar[str] = "plain"
    weight: ClassVar[int] = 4
    """How often it is called, among the others."""
    rowwise: ClassVar[bool] = True
    """Each row of the answer is of one row of the request, so that a client may cut the request."""
    tolerance: ClassVar[float] = 0.0
    """Relative, of numbers that TensorFlow may add up in another order."""
    stateful: ClassVar[bool] = False
    feeds: ClassVar[tuple[str, ...]] = ()
    fetches: ClassVar[tuple[str, ...]] = ()
    """Tensors of the graph, in the order of inputs and outputs, where it can be run as a session."""

    @property
    def signature(self) -> str:
        return self.name

    def export(self, tf: Any, module: Any) -> Function:
        """A `tf.function`; what it needs to live is kept in `module`."""
        raise TypeError(f"{self.name} is not made by a tf.function")

    @abstractmethod
    def make(self, draw: Draw, tag: int) -> Tensors:
        """Inputs whose shapes `draw` decides, and whose values are this tag's."""

    def answer(self, inputs: Tensors) -> Tensors:
        """What the model must answer, computed by numpy."""
        raise TypeError(f"{self.name} checks its answers otherwise")

    def bad(self, inputs: Tensors) -> bool:
        """The model must fail on these."""
        return False

    def check(self, inputs: Tensors, answer: Tensors) -> str | None:
        """The error in an answer; None if it is right."""
        expected = self.answer(inputs)
        if answer.keys() != expected.keys():
            return f"outputs {sorted(answer)} in place of {sorted(expected)}"
        for name, right in expected.items():
            wrong = self._difference(answer[name], right)
            if wrong:
                return f"{name}: {wrong}"
        return None

    def _difference(self, given: Any, right: np.ndarray) -> str | None:
        given = np.asarray(given)
        if given.shape != right.shape or given.dtype.kind != right.dtype.kind:
            return f"{given.dtype}{list(given.shape)} in place of {right.dtype}{list(right.shape)}{_whose(given)}"
        if self.tolerance and right.dtype.kind == "f":
            same = np.allclose(given, right, rtol=self.tolerance, atol=self.tolerance)
        else:
            same = bool((given == right).all())
        if same:
            return None
        at = np.unravel_index(int((given != right).argmax()), given.shape) if given.ndim else ()
        return f"{given[at]!r} in place of {right[at]!r} at {list(map(int, at))}{_whose(given)}"


def _whose(given: np.ndarray) -> str:
    if given.size and given.dtype.kind in "fi":
        return f" (2 x {owner_of(float(given.flat[0]) / 2)}?)"
    return ""
