"""Python models of strings for tests, served as `tests.process.text_models:NAME`; SOURCES maps names to sources."""

from __future__ import annotations

import time
from functools import partial

import numpy as np

from broker import signature as signed
from tests.process.models import HEAVY_SECONDS, pass_gate

signature = partial(signed, independent_rows=True)  # tests are about joined requests, too

BAD = b"unlucky"


def each(strings: np.ndarray, change: object) -> np.ndarray:
    made = np.empty(strings.size, object)
    made[:] = [change(one) for one in strings.ravel()]  # type: ignore[operator]
    return made.reshape(strings.shape)


@signature(inputs={"x": ("string", None)}, outputs={"y": ("string", None)})
def echo(x: np.ndarray) -> np.ndarray:
    return x


@signature(inputs={"text": ("string", [None])}, outputs={"length": ("int64", [None])})
def measure(text: np.ndarray) -> np.ndarray:
    return np.array([len(one) for one in text], np.int64)


@signature(inputs={"n": ("int64", [])}, outputs={"words": ("string", [None])})
def produce(n: np.ndarray) -> np.ndarray:
    """`n` words of 0 to 99 bytes: nobody knows before how many bytes in all."""
    made = np.empty(int(n), object)
    made[:] = [bytes([65 + number % 26]) * (number % 100) for number in range(int(n))]
    return made


@signature(
    inputs={"number": ("int64", [None]), "text": ("string", [None])},
    outputs={"shout": ("string", [None]), "length": ("int64", [None]), "rows_in_batch": ("int64", [None])},
)
def shout(number: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, ...]:
    """On a thread of its own, once the gate is open for the first row's number; fails if any text is BAD."""
    time.sleep(HEAVY_SECONDS)
    if len(number):
        pass_gate(int(number[0]))
    if BAD in text.tolist():
        raise ValueError(f"unlucky row {text.tolist().index(BAD)} of {len(text)}")
    lengths = np.array([len(one) for one in text], np.int64)
    return each(text, bytes.upper), lengths, np.full(len(text), len(text), np.int64)


@signature(
    inputs={"words": ("string", [None, None])},
    outputs={"joined": ("string", [None]), "words": ("string", [None, None]), "width": ("int64", [None])},
)
def join(words: np.ndarray) -> tuple[np.ndarray, ...]:
    """Each row's words with commas, and how wide the batch was."""
    joined = np.array([b",".join(row) for row in words], object)
    return joined.reshape(len(words)), words, np.full(len(words), words.shape[1], np.int64)


@signature(
    inputs={"x": ("float32", [None, 4]), "label": ("string", [None])},
    outputs={"y": ("float32", [None, 4]), "label": ("string", [None])},
)
def mixed(x: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x * 2, label


@signature(inputs={"how": ("int64", [])}, outputs={"y": ("string", [None])})
def answer(how: np.ndarray) -> object:
    """What a model may give as strings, and what not."""
    return [
        ["a", b"b", "ü"],
        np.array(["a", "bc"]),
        np.array([b"a", b"bc"]),
        np.array(["ok", 7], object),
        np.array([1, 2]),
        [b"one", [b"two"]],
    ][int(how)]


SOURCES = {
    name: f"{__name__}:{name}" for name in ("echo", "measure", "produce", "shout", "join", "mixed", "answer")
}
