"""Published, trained models as their packages ship them, through a broker: the answers are TensorFlow's own.

basic-pitch (Spotify, Apache-2.0) has a Keras model of audio as a TF2 SavedModel, guesslang (MIT) an Estimator's TF1
SavedModel that takes texts. The packages are installed without what they depend on (tests/real_models.txt), and never
imported.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client
from broker.models.tf.runtime import tf
from tests.brokers import TestBroker, serving

v1 = tf.compat.v1

MODELS = {
    "pitch": ("basic_pitch", "saved_models/icassp_2022/nmp"),
    "language": ("guesslang", "data/model"),
}
BATCH_LIMIT = 4
SINGLE_RUNS = {"rtol": 0.0, "atol": 5e-3}
"""What a row may differ from a run of its own: TensorFlow's kernels divide larger batches otherwise among vector
registers and sum in another order, and the network takes logarithms of next to nothing (of 120 seeds one gave 3e-4)."""

PROGRAMS = {
    "py": b"import os\n\n\ndef main(path):\n    for name in os.listdir(path):\n        print(name)\n",
    "c": b'#include <stdio.h>\n\nint main(void) {\n    printf("%d\\n", 42);\n    return 0;\n}\n',
    "html": b"<!DOCTYPE html><html><body><p>Hello <b>there</b></p></body></html>",
}


def directory_of(model: str) -> Path:
    """Where the package has its model. Skips the test where it is not installed."""
    package, inside = MODELS[model]
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed: pip install --no-deps -r tests/real_models.txt")
    return Path(found.origin).parent / inside


class InProcess:
    """The model in a session of this process, opened by TensorFlow's own loader."""

    def __init__(self, directory: Path) -> None:
        self.session = v1.Session(graph=tf.Graph(), config=v1.ConfigProto(intra_op_parallelism_threads=1))
        with self.session.graph.as_default():
            loaded = v1.saved_model.loader.load(self.session, ["serve"], str(directory))
        self._signature = loaded.signature_def["serving_default"]

    def __call__(self, x: np.ndarray) -> dict[str, np.ndarray]:
        (info,) = self._signature.inputs.values()
        fetches = {name: info.name for name, info in self._signature.outputs.items()}
        answer: dict[str, np.ndarray] = self.session.run(fetches, {info.name: x})
        return answer


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    models: dict[str, Any] = {
        name: {"source": directory_of(name), "intra_op_threads": 1, "max_batch_size": BATCH_LIMIT}
        for name in MODELS
    }
    models["joined"] = {**models["pitch"], "batching": "on"}
    with serving(models=models) as made:
        yield made


@pytest.fixture
def in_process(request: pytest.FixtureRequest) -> Iterator[InProcess]:
    made = InProcess(directory_of(request.param))
    yield made
    made.session.close()


def sounds(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Two seconds of a note with its overtones and noise: float32 [rows, 43844, 1], at 22,050 samples a second."""
    t = np.arange(43844) / 22050
    pitches = rng.uniform(110, 880, size=(rows, 1))
    tone = sum(np.sin(2 * np.pi * pitches * n * t) / n for n in (1, 2, 3))
    return (0.2 * tone + rng.normal(scale=0.01, size=tone.shape)).astype(np.float32)[..., None]


@pytest.mark.parametrize("in_process", ["pitch"], indirect=True)
def test_a_sound_bit_by_bit(broker, in_process, rng):
    """One row at a time the answers of the trained network are TensorFlow's, in every bit."""
    with worker_client.connect(broker.address) as client:
        model = client.model("pitch")
        for x in sounds(rng, 2):
            answer = model.predict(x[None], timeout=60)
            want = in_process(x[None])
            assert answer.keys() == want.keys() == {"contour", "note", "onset"}
            for name in want:
                np.testing.assert_array_equal(answer[name], want[name])
            assert want["note"].max() > 0.3  # it hears something


@pytest.mark.parametrize("in_process", ["pitch"], indirect=True)
def test_sounds_in_batches(broker, in_process, rng):
    """Several rows, of which the broker runs four at a time as it was told to, are those of a session that runs them
    so, bit by bit."""
    x = sounds(rng, 6)
    with worker_client.connect(broker.address) as client:
        answer = client.model("joined").predict(x, timeout=60)
    batches = [in_process(x[:BATCH_LIMIT]), in_process(x[BATCH_LIMIT:])]
    alone = [in_process(row[None]) for row in x]
    for name in answer:
        np.testing.assert_array_equal(answer[name], np.concatenate([batch[name] for batch in batches]))
        np.testing.assert_allclose(answer[name], np.concatenate([one[name] for one in alone]), **SINGLE_RUNS)


@pytest.mark.parametrize("in_process", ["pitch"], indirect=True)
def test_silence_is_kept_apart(broker, in_process, rng):
    """The network scales each sound to its loudest and softest moment, which turns the rounding of a silent one into
    other answers in another batch. No request is joined or split, unless it is asked for."""
    x = sounds(rng, 6)
    x[2] = 0
    with worker_client.connect(broker.address) as client:
        model = client.model("pitch")
        for part in (x, x[2:3]):
            answer, want = model.predict(part, timeout=60), in_process(part)
            for name in want:
                np.testing.assert_array_equal(answer[name], want[name])


@pytest.mark.parametrize("in_process", ["language"], indirect=True)
def test_texts_bit_by_bit(broker, in_process):
    """Texts go in, texts and numbers come out; and the model was trained, as its answers show."""
    with worker_client.connect(broker.address) as client:
        model = client.model("language")
        for language, program in PROGRAMS.items():
            x = np.array([program], object)
            answer, want = model.predict(x, timeout=60), in_process(x)
            assert answer.keys() == want.keys() == {"classes", "scores"}
            np.testing.assert_array_equal(answer["scores"], want["scores"])
            np.testing.assert_array_equal(answer["classes"], want["classes"])
            assert answer["classes"][0, answer["scores"][0].argmax()].decode() == language
