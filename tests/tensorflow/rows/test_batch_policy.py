"""The batch policy on SavedModels, which may declare free first dimensions and still give other rows than they take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from benchmarks.models.mlp import mlp_answer
from tests.brokers import TestBroker, serving
from worker_client import Client

ROWS = np.random.default_rng(7).standard_normal((11, 128)).astype(np.float32)


POLICIES: dict[str, dict[str, object]] = {
    "split": {"max_batch_size": 4},
    "padded": {"allowed_batch_sizes": [4, 16]},
    "single": {"max_batch_size": 1},
    "off": {"batching": False},
}


@pytest.fixture(scope="module")
def broker(saved_models: Mapping[str, Path]) -> Iterator[TestBroker]:
    """One for all of them: what takes the time is TensorFlow's start."""
    models = {name: {"source": saved_models["mlp"], **policy} for name, policy in POLICIES.items()}
    models["shapes"] = {"source": saved_models["shapes"], "max_batch_size": 4, "batching": "on"}
    models["windows"] = {"source": saved_models["windows"], "max_queue_rows": 10}
    models["together"] = {**models["shapes"], "max_delay": 5.0}
    with serving(models=models) as running:
        yield running


def test_a_signature_that_cannot_be_split_runs_whole(broker: TestBroker, client: Client) -> None:
    """If the parts of a request give other rows than they had, it is run again in one piece, and later ones at once."""
    model = client.model("shapes", signature="nonzero")
    shape = tuple(size or 1 for size in model.signature.inputs[0].shape or ())
    x = np.zeros((10, *shape[1:]), np.float32)
    x[::3] = 1
    for _ in range(3):
        np.testing.assert_array_equal(model.predict(x, timeout=60), x[::3])
    runs = broker.status()["models"]["shapes"]["nonzero"]["batch_rows"]
    assert runs["10"] == 3


def test_a_first_dimension_that_counts_no_rows_may_be_of_any_length(load, client: Client) -> None:
    """60 seconds of sound at 16 kHz are one request, and so are two of them."""
    model = client.model("windows")
    waveform = np.random.default_rng(5).standard_normal(960_000).astype(np.float32)
    (wanted,) = load("windows").plain_run("serving_default")(waveform)
    for future in [model.submit(waveform, timeout=60) for _ in range(2)]:
        np.testing.assert_allclose(future.result(60), wanted, rtol=1e-4, atol=1e-5)


def test_a_batch_that_gives_other_rows_answers_one_by_one(client: Client) -> None:
    """If a batch returns another number of rows, each of its requests is run again by itself."""
    model = client.model("together", signature="nonzero")
    shape = tuple(size or 1 for size in model.signature.inputs[0].shape or ())
    rows = [np.full((1, *shape[1:]), value, np.float32) for value in (1, 0, 2, 0)]
    answers = [future.result(60) for future in [model.submit(row, timeout=60) for row in rows]]
    for row, answer in zip(rows, answers):
        np.testing.assert_array_equal(answer, row[row.any(1)])


@pytest.mark.parametrize("policy", POLICIES)
def test_any_policy_gives_the_models_answer(client: Client, policy: str) -> None:
    """Split, padded or run as it came: the rows of the answer are the model's own."""
    model = client.model(policy)
    for rows in (1, 3, 4, 5, 11):
        got = model.predict(ROWS[:rows], timeout=60)
        np.testing.assert_allclose(got, mlp_answer(ROWS[:rows]), rtol=1e-5, atol=1e-7)
