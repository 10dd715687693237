"""The inputs that every arm of a target gets, and the right answers.

Several inputs take turns, so that an answer left from the previous call is detected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks import mobilenet
from benchmarks.losses import huge_model
from benchmarks.models.mlp import mlp_answer
from broker.bench.answers import check
from broker.models.python.echo import ANSWERS

ROWS = 8
IMAGES = 4  # 2.4 MB: more than a core's own cache, as fresh images are
IMAGE_SHAPE = mobilenet.IMAGE_SHAPE
TOLERANCE = 1e-5
_MOST_RIGHT = 256
_ADVICE = "the arm answers wrongly, so that its times mean nothing"


@dataclass(frozen=True)
class Workload:
    """`answers[i]` is what `inputs[i]` gives."""

    name: str
    inputs: list[np.ndarray]
    answers: list[np.ndarray]
    tolerance: float = TOLERANCE


class Checker:
    """Compares answers with the expected ones: numerically once, then with the bytes that were right, which is quick
    enough to be done for every call without cooling the machine down between calls.

    Several bytes can be right: the last bits depend on the batch that a row was run in.
    """

    def __init__(self, workload: Workload) -> None:
        self._answers = workload.answers
        self._tolerance = workload.tolerance
        self._right: list[set[bytes]] = [set() for _ in workload.answers]
        self.checked = 0

    def check(self, index: int, answer: np.ndarray) -> None:
        """Raises WrongAnswer."""
        if answer.tobytes() not in self._right[index]:
            self._compare(index, answer)
        self.checked += 1

    def _compare(self, index: int, answer: np.ndarray) -> None:
        check({"y": self._answers[index]}, {"y": answer}, self._tolerance, f"input {index}", _ADVICE)
        right = self._right[index]
        if len(right) == _MOST_RIGHT:
            right.clear()
        right.add(answer.tobytes())


def make(name: str, seed: int) -> Workload:
    """`name` may include the number of rows of each input: "mlp:16"."""
    kind, _, rows = name.partition(":")
    if rows:
        return Workload(name, *_of_rows(kind, np.random.default_rng(seed), int(rows)))
    tolerance = mobilenet.TOLERANCE if name.startswith("mobilenet") else TOLERANCE
    return Workload(name, *_MAKERS[name](np.random.default_rng(seed)), tolerance)


Pairs = tuple[list[np.ndarray], list[np.ndarray]]


def _rows(rng: np.random.Generator, count: int = ROWS) -> list[np.ndarray]:
    return [rng.normal(size=(1, 128)).astype(np.float32) for _ in range(count)]


def _of_rows(kind: str, rng: np.random.Generator, rows: int) -> Pairs:
    inputs = [rng.normal(size=(rows, 128)).astype(np.float32) for _ in range(ROWS)]
    return inputs, [{"mlp": mlp_answer, "head": head}[kind](x) for x in inputs]


def _images(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.random((1, *IMAGE_SHAPE), np.float32) for _ in range(IMAGES)]


def _mlp(rng: np.random.Generator) -> Pairs:
    inputs = _rows(rng)
    return inputs, [mlp_answer(x) for x in inputs]


def _first_row(rng: np.random.Generator) -> Pairs:
    inputs = _rows(rng, 1)
    return inputs, [mlp_answer(x) for x in inputs]


def _echo(rng: np.random.Generator) -> Pairs:
    inputs = _rows(rng)
    return inputs, [ANSWERS[:1]] * len(inputs)


def _head(rng: np.random.Generator) -> Pairs:
    inputs = _rows(rng)
    return inputs, [head(x) for x in inputs]


def _image(rng: np.random.Generator) -> Pairs:
    inputs = _images(rng)
    return inputs, [ANSWERS[:1]] * len(inputs)


def _image_copy(rng: np.random.Generator) -> Pairs:
    inputs = _images(rng)
    return inputs, [strided(x) for x in inputs]


def _huge(rng: np.random.Generator) -> Pairs:
    """Samples of the answers, as the arms take them."""
    inputs = _rows(rng, 2)
    return inputs, [huge_model.answer(x) for x in inputs]


def _mobilenet(rng: np.random.Generator) -> Pairs:
    """The examples that are kept with the model, whatever the seed: only the model can compute their answers."""
    return mobilenet.examples()


def _mobilenet_batch(rng: np.random.Generator) -> Pairs:
    inputs, answers = mobilenet.examples()
    return [np.concatenate(inputs)], [np.concatenate(answers)]


def head(rows: np.ndarray) -> np.ndarray:
    """The first ten values of each row, a view: an answer that belongs to its row, in whatever batch it runs."""
    return rows[:, :10]


def strided(images: np.ndarray) -> np.ndarray:
    """Ten values of each image from its first to its last: enough to see that all of it came over. float32 [n, 10]."""
    flat = images.reshape(len(images), -1)
    return flat[:, np.linspace(0, flat.shape[1] - 1, 10, dtype=int)]


_MAKERS: dict[str, Callable[[np.random.Generator], Pairs]] = {
    "mlp": _mlp,
    "first_row": _first_row,
    "echo": _echo,
    "head": _head,
    "huge": _huge,
    "image": _image,
    "image_copy": _image_copy,
    "mobilenet": _mobilenet,
    "mobilenet_batch": _mobilenet_batch,
}
