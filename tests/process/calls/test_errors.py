"""What callers are told when a call cannot succeed; and that the next one does."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker, folder, serving
from tests.workers import in_child
from worker_client import BrokerError, BrokerUnavailable, Client, ModelFailed, ModelNotFound

MODELS = ("double", "picky", "picky_heavy", "misbehave", "loses_rows", "echo_bfloat16", "add")
ROW = np.ones((1, 4), np.float32)


@pytest.mark.parametrize("model", ["picky", "picky_heavy"])
def test_model_failed_carries_the_models_message(client: Client, model: str) -> None:
    """ModelFailed says which model, version and signature raised what; the next call to it is answered."""
    with pytest.raises(ModelFailed) as caught:
        client.model(model).predict(np.array([[1, 2, 3, 4], [1, 13, 3, 4]], np.float32))
    assert str(caught.value) == (
        f"model {model!r} version 1, signature 'serving_default': tests.process.models:{model} raised ValueError: "
        "unlucky row 1 of 2"
    )
    np.testing.assert_array_equal(client.model(model).predict(ROW), ROW * 2)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (1, r"returned 'y' with shape \[1, 3\], but its signature says float32\[\?, 2\]"),
        (2, r"returned 'y' as float64, but its signature says float32"),
        (3, "returned 2 outputs"),
        (4, "its signature says"),
        (5, "its signature says"),
        (6, "raised SystemExit: 3"),
        (7, "raised KeyboardInterrupt"),
    ],
)
def test_a_misbehaving_model_fails_its_request_only(client: Client, how: int, says: str) -> None:
    """Whatever a model returns or raises, its caller gets ModelFailed and the broker serves on."""
    with pytest.raises(ModelFailed, match=says):
        client.model("misbehave").predict(np.int32(how))
    assert client.model("misbehave").predict(np.int32(0)).shape == (1, 2)
    np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)


def test_failures_are_counted(broker: TestBroker, client: Client) -> None:
    """The status tells how many requests of a model failed."""
    before = broker.counters("picky")
    with pytest.raises(ModelFailed):
        client.model("picky").predict(ROW * 13)
    client.model("picky").predict(ROW)
    after = broker.counters("picky")
    assert after["failures"] - before["failures"] == 1
    assert after["requests"] - before["requests"] == 2


def test_unknown_model_version_and_signature_are_named(client: Client) -> None:
    """ModelNotFound says what was asked for and what there is."""
    for model, says in (
        (client.model("nothing"), "no model 'nothing'; it serves add, double, "),
        (client.model("double", version=7), "model 'double' has no version 7; it has 1"),
        (
            client.model("double", signature="other"),
            "model 'double' version 1 has no signature 'other'; it has serving_default",
        ),
    ):
        with pytest.raises(ModelNotFound) as caught:
            model.predict(ROW)
        assert says in str(caught.value)
        assert isinstance(caught.value, LookupError)
    assert client.model("double", version=1, signature="serving_default").predict(ROW).sum() == 8


def test_no_broker_is_told_with_the_way_to_start_one() -> None:
    """BrokerUnavailable names the address and how a broker is started; connecting itself asks nothing."""
    with folder() as place:
        client = worker_client.connect(place / "b.sock")
        model = client.model("double")
        for call in (lambda: model.predict(ROW), lambda: model.submit(ROW), client.models):
            with pytest.raises(BrokerUnavailable, match="onesession serve --model") as caught:
                call()
            assert str(place / "b.sock") in str(caught.value)


def test_a_broker_started_later_is_found() -> None:
    """A handle made before there was a broker works once there is one."""
    with folder() as place, worker_client.connect(place / "b.sock") as client:
        model = client.model("double")
        with pytest.raises(BrokerUnavailable):
            model.predict(ROW)
        with serving("double", path=place / "b.sock"):
            np.testing.assert_array_equal(model.predict(ROW), ROW * 2)


def test_a_worker_without_ml_dtypes_uses_what_it_can(broker: TestBroker) -> None:
    """A bfloat16 model on the same broker costs a worker without ml_dtypes that model only."""

    def child() -> list[float]:
        sys.modules["ml_dtypes"] = None  # type: ignore[assignment]
        client = worker_client.connect(broker.address)
        with pytest.raises(BrokerError, match="ml_dtypes"):
            client.model("echo_bfloat16").predict([1.0])
        answer: list[float] = client.model("double").predict(ROW).tolist()
        return answer

    assert in_child(child) == [[2, 2, 2, 2]]


def test_a_model_that_loses_rows_is_told_so_only_where_it_did(client: Client) -> None:
    """One row is answered; for two, ModelFailed counts what was given and returned."""
    np.testing.assert_array_equal(client.model("loses_rows").predict(ROW), ROW)
    with pytest.raises(ModelFailed, match="with 1 row for 2 rows of input"):
        client.model("loses_rows").predict(np.ones((2, 4), np.float32))
