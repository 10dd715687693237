"""SavedModels whose warm-up says little of what requests take: no long run of theirs holds the intake thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.control_plane.query import ask
from tests.brokers import TestBroker, serving, wait_until
from tests.models.saved_models import export
from worker_client import Client, connect

IMAGE = np.ones((1, 512, 512, 3), np.float32)
X = np.ones((1, 4), np.float32)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("light_or_heavy")
    found = {kind: folder / kind for kind in ("jpegs", "convolutional", "unexported")}
    export(found)
    return found


@pytest.fixture(scope="module")
def broker(paths: dict[str, Path]) -> Iterator[TestBroker]:
    models = {name: {"source": str(path), "intra_op_threads": 1} for name, path in paths.items()}
    with serving(models=models, tune="off") as running:
        yield running


@pytest.fixture
def client(broker: TestBroker) -> Iterator[Client]:
    with connect(broker.address, timeout=60) as made:
        yield made


def counted(broker: TestBroker, model: str, runs: int, signature: str = "serving_default") -> dict[str, Any]:
    """Once so many runs have been counted, which is after their answers."""

    def find() -> dict[str, Any] | None:
        every = ask(broker.address, "stats")["stats"]["signatures"]
        (found,) = [each for each in every if (each["model"], each["signature"]) == (model, signature)]
        return found if found["runs"] >= runs else None

    found: dict[str, Any] = wait_until(find, f"{runs} runs of {model}")
    assert found["runs"] == runs
    return found


def assert_never_inline(found: dict[str, Any], why: str) -> None:
    assert (found["light"], found["why"], found["inline_runs"]) == (False, why, 0)


def test_images_where_an_empty_string_is_illegal(
    broker: TestBroker, client: Client, paths: dict[str, Path]
) -> None:
    """Nothing could be measured. The first run, whatever it takes, is no reason to call it light."""
    image = np.array([Path(f"{paths['jpegs']}.jpg").read_bytes()], object)
    for _ in range(5):
        assert client.model("jpegs").predict(image) == pytest.approx([127.5], abs=10)
    assert_never_inline(counted(broker, "jpegs", 5), "unmeasured")


def test_a_fully_convolutional_model(broker: TestBroker, client: Client) -> None:
    """One pixel takes a tenth of a millisecond; larger images are measured as well."""
    for _ in range(5):
        assert client.model("convolutional").predict(IMAGE).shape == (1, 32)
    assert_never_inline(counted(broker, "convolutional", 5), "measured")


def test_fetches_that_are_no_signatures(broker: TestBroker, client: Client) -> None:
    """What they take is seen when they run. The model's signature stays as light as it is."""
    session = client.session("unexported")
    for _ in range(5):
        assert session.run("costly:0", {"x:0": X}) == pytest.approx(1 / 800, rel=1e-3)
        np.testing.assert_array_equal(client.model("unexported").predict(X), 2 * X)
    assert_never_inline(counted(broker, "unexported", 5, "session"), "unmeasured")
    assert counted(broker, "unexported", 5)["inline_runs"] > 0
