"""The batch policy on SavedModels, which may declare free first dimensions and still give other rows than they take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import worker_client
from tests.brokers import serving
from tests.saved_models import mlp_answer

ROWS = np.random.default_rng(7).standard_normal((11, 128)).astype(np.float32)


def test_a_signature_that_cannot_be_split_runs_whole(saved_models: Mapping[str, Path]) -> None:
    """If the parts of a request give other rows than they had, it is run again in one piece, and later ones at once."""
    models = {"shapes": {"source": saved_models["shapes"], "max_batch_size": 4}}
    with serving(models=models) as broker, worker_client.connect(broker.address) as client:
        model = client.model("shapes", signature="nonzero")
        shape = tuple(size or 1 for size in model.signature.inputs[0].shape or ())
        x = np.zeros((10, *shape[1:]), np.float32)
        x[::3] = 1
        for _ in range(3):
            np.testing.assert_array_equal(model.predict(x, timeout=60), x[::3])
        runs = broker.status()["models"]["shapes"]["nonzero"]["batch_rows"]
        assert runs["10"] == 3


@pytest.mark.parametrize(
    "settings",
    [{"max_batch_size": 4}, {"allowed_batch_sizes": [4, 16]}, {"max_batch_size": 1}, {"batching": False}],
)
def test_any_policy_gives_the_models_answer(mlp_path: Path, settings: dict[str, object]) -> None:
    """Split, padded or run as it came: the rows of the answer are the model's own."""
    with (
        serving(models={"mlp": {"source": mlp_path, **settings}}) as broker,
        worker_client.connect(broker.address) as client,
    ):
        model = client.model("mlp")
        for rows in (1, 3, 4, 5, 11):
            got = model.predict(ROWS[:rows], timeout=60)
            np.testing.assert_allclose(got, mlp_answer(ROWS[:rows]), rtol=1e-5, atol=1e-7)
