"""Numbers too small for float32's exponent: the broker answers with the bits of `Session.run`, on whatever thread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from broker.own_process.float_mode import flush_denormals
from tests.brokers import TestBroker, serving
from worker_client import Client

TINY = np.float32([1e-38, 1e-40, -3e-45, 2e-38, 1.5])
SETTINGS: dict[str, dict[str, object]] = {
    "caller": {"caller_thread": True, "intra_op_threads": 1},
    "pool": {"caller_thread": False, "intra_op_threads": 1},
    "threads": {"caller_thread": True, "intra_op_threads": 2},
}


@pytest.fixture(scope="module")
def broker(saved_models: Mapping[str, Path]) -> Iterator[TestBroker]:
    models = {name: {"source": saved_models["denormals"], **s} for name, s in SETTINGS.items()}
    with serving("double", models=models) as running:
        yield running


@pytest.mark.parametrize("model", SETTINGS)
@pytest.mark.parametrize("signature", ["serving_default", "heavy"])
def test_an_answer_has_the_bits_of_session_run(load, client: Client, model: str, signature: str) -> None:
    """Light or heavy, on the caller's thread or in the pool, alone or joined."""
    wanted = load("denormals").plain_run(signature)(TINY)
    handle = client.model(model, signature=signature)
    answers = [handle.predict(TINY, timeout=60)]
    answers += [future.result(60) for future in [handle.submit(TINY, timeout=60) for _ in range(8)]]
    for answer in answers:
        got = answer.values() if isinstance(answer, dict) else [answer]
        names = [spec.name for spec in handle.signature.outputs]
        for name, one, other in zip(names, got, wanted, strict=True):
            assert one.tobytes() == other.tobytes(), (name, one, other)


def test_a_python_model_on_the_same_thread_keeps_its_small_numbers(client: Client) -> None:
    """Light models of both kinds take turns on one thread, and each computes as it is used to."""
    row = np.float32([[1e-40, 3e-45, 1e-38, 1]])
    for _ in range(3):
        np.testing.assert_array_equal(client.model("double").predict(row), row * 2)
        assert client.model("caller").predict(TINY)["half"][1] == 0
    assert (row * 2)[0, 0] != 0


def test_the_mode_is_the_thread_s_and_is_taken_back() -> None:
    """Results and operands that are denormals count as zero in between, and nothing else changes."""
    small = np.float32([1e-40, 1e-20])
    assert (small * np.float32(2))[0] != 0
    try:
        flush_denormals(True)
        flushed = small * np.float32(2), small * small
    finally:
        flush_denormals(False)
    assert flushed[0].tolist() == [0, float(np.float32(1e-20) * 2)]
    assert flushed[1].tolist() == [0, 0]
    assert (small * small)[1] != 0
