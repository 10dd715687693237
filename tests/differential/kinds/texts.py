"""Kinds with strings on either side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.differential.draw import Draw
from tests.differential.kinds.kind import NUMBERS, ROWS, Function, Kind, Tensors

BANK_VARIABLE = "ONESESSION_DIFFERENTIAL_BANK"
DIMENSIONS = 64
_WORDS = 1 << 12
_OF_A_CALLER = _WORDS // 32


def words(draw: Draw, tag: int) -> np.ndarray:
    """Of different lengths, each with its request's tag in it."""
    return np.array(
        [b"%d-%d-" % (tag, row) + b"abc" * draw.below(9) for row in range(draw.among(ROWS))], object
    )


class Embedding(Kind):
    """Text -> 64 numbers a row, by TensorFlow's own hash: TensorFlow has answered for each word beforehand, in the
    process that exported the model."""

    name = "text_to_numbers"
    weight = 8
    tolerance = 1e-6
    bank: np.ndarray | None = None

    def export(self, tf: Any, module: Any) -> Function:
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def serve(text):
            bucket = tf.strings.to_hash_bucket_fast(text, 1 << 30)
            phase = tf.cast(bucket % 65_521, tf.float32)[:, None]
            return {"y": tf.sin(phase * tf.range(1.0, DIMENSIONS + 1)), "length": tf.strings.length(text)}

        return serve

    def fill_bank(self, serve: Function, path: Path) -> None:
        """What TensorFlow answers, for the processes that have none. In the exporting process."""
        np.save(path, serve(np.array([self._word(index) for index in range(_WORDS)], object))["y"].numpy())

    def open_bank(self, path: Path) -> None:
        self.bank = np.load(path)

    @staticmethod
    def _word(index: int) -> bytes:
        return b"%d" % index + b"xy" * (index % 6)

    def make(self, draw: Draw, tag: int) -> Tensors:
        """Words of this caller's share of the bank, another one with each call."""
        caller, number = divmod(tag, NUMBERS)
        rows = draw.among((1, 1, 1, 2, 4, 16, 40))
        index = caller * _OF_A_CALLER + (number + np.arange(rows)) % _OF_A_CALLER
        return {"text": np.array([self._word(int(one)) for one in index], object)}

    def answer(self, inputs: Tensors) -> Tensors:
        assert self.bank is not None
        index = [int(word.rstrip(b"xy")) for word in inputs["text"]]
        return {"y": self.bank[index], "length": np.array([len(word) for word in inputs["text"]], np.int32)}


class Upper(Kind):
    """Text -> text."""

    name = "text_to_text"

    def export(self, tf: Any, module: Any) -> Function:
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def serve(text):
            return {"y": tf.strings.upper(text)}

        return serve

    def make(self, draw: Draw, tag: int) -> Tensors:
        return {"text": words(draw, tag)}

    def answer(self, inputs: Tensors) -> Tensors:
        return {"y": np.array([word.upper() for word in inputs["text"]], object)}


class Spelled(Kind):
    """Numbers -> text, of a length that the numbers decide."""

    name = "numbers_to_text"

    def export(self, tf: Any, module: Any) -> Function:
        spec = tf.TensorSpec

        @tf.function(input_signature=[spec([None], tf.int64, name="n"), spec([None], tf.int32, name="width")])
        def serve(n, width):
            text = tf.strings.as_string(n)
            return {"text": tf.strings.substr(tf.strings.join([text] * 8, "."), tf.zeros_like(width), width)}

        return serve

    def make(self, draw: Draw, tag: int) -> Tensors:
        rows = draw.among(ROWS)
        width = np.array([8 + draw.below(8) for _ in range(rows)], np.int32)
        return {"n": np.arange(rows, dtype=np.int64) + tag + (1 << 40), "width": width}

    def answer(self, inputs: Tensors) -> Tensors:
        text = [
            b".".join([b"%d" % n] * 8)[:width]
            for n, width in zip(inputs["n"].tolist(), inputs["width"].tolist())
        ]
        return {"text": np.array(text, object)}


class Split(Kind):
    """Text -> its words, ragged."""

    name = "text_to_ragged"
    weight = 2
    rowwise = False

    def export(self, tf: Any, module: Any) -> Function:
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def serve(text):
            return {"words": tf.strings.split(text, "-")}

        return serve

    def make(self, draw: Draw, tag: int) -> Tensors:
        return {"text": words(draw, tag)}

    def answer(self, inputs: Tensors) -> Tensors:
        parts = [word.split(b"-") for word in inputs["text"]]
        return {
            "words.flat_values": np.array([part for some in parts for part in some], object),
            "words.row_splits": np.cumsum([0, *map(len, parts)]),
        }
