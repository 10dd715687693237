"""A model that calls the broker which runs it would wait for itself: it gets an error at once, however it calls."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client
from broker import Broker
from broker.config.settings import Settings
from broker.control_plane.query import ask
from broker.models.spec import ModelSpec
from broker.server.server import Server
from tests.brokers import TestBroker, folder, serving
from tests.process import calling_models
from tests.process.calling_models import ADDRESS, LINK, WAYS
from worker_client import BrokerUnavailable, Client, ModelFailed

ONE = np.ones(1, np.float32)
TOLD = "a model cannot call the broker that runs it"


def sources(*names: str, **settings: Any) -> dict[str, Any]:
    return {name: {"source": f"tests.process.calling_models:{name}", **settings} for name in names}


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with folder() as place, pytest.MonkeyPatch.context() as patch:
        (place / "link").symlink_to(place)
        patch.setenv(ADDRESS, os.fspath(place / "b.sock"))
        patch.setenv(LINK, os.fspath(place / "link" / "b.sock"))
        yield place


@pytest.fixture(scope="module", params=["auto", False], ids=["light", "heavy"])
def broker(place: Path, request: pytest.FixtureRequest) -> Iterator[TestBroker]:
    models = sources(*WAYS, "innocent", inline=request.param) | sources("while_it_loads")
    with serving(models=models, path=place / "b.sock") as running:
        yield running


@pytest.fixture
def client(broker: TestBroker) -> Iterator[Client]:
    with worker_client.connect(broker.address, timeout=60) as made:
        yield made


@pytest.mark.parametrize("way", WAYS)
def test_it_is_told_at_once(client: Client, way: str) -> None:
    """The caller learns what to do, and the broker goes on."""
    for _ in range(2):
        with pytest.raises(ModelFailed, match=TOLD):
            client.model(way).predict(ONE)
    np.testing.assert_array_equal(client.model("innocent").predict(ONE), 2 * ONE)


def test_a_factory_that_calls_is_told_as_well(broker: TestBroker) -> None:
    (version,) = ask(broker.address, "models")["models"]["while_it_loads"]["versions"]
    assert version["state"] == "END"
    assert TOLD in version["cause"]


def test_an_application_may_call_the_broker_in_its_process(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its models may not, not even with the client that the application has attached."""
    path = place / "mine.sock"
    models = sources("innocent", "with_a_client_made_at_import", inline=False)
    server = Server(Settings(models=tuple(ModelSpec.coerce_all(models)), address=os.fspath(path), tune="off"))
    server.start()
    try:
        with worker_client.connect(path, timeout=60) as client:
            monkeypatch.setattr(calling_models, "made_at_import", [client])
            np.testing.assert_array_equal(client.model("innocent").predict(ONE), 2 * ONE)
            with pytest.raises(ModelFailed, match=TOLD):
                client.model("with_a_client_made_at_import").predict(ONE)
    finally:
        server.stop()


def test_a_broker_that_was_not_started_is_told() -> None:
    """Who makes one and forgets to start it has no other broker to look for; once it is started, or gone, nothing more
    is said about it."""
    models = {"double": "tests.process.models:double"}
    not_started = "the Broker of this program at .* is not started: call its start"
    with folder() as place:
        made = Broker(models=models, name=os.fspath(place / "b.sock"))
        with worker_client.connect(made.address, timeout=5) as client:
            with pytest.raises(BrokerUnavailable, match=not_started):
                client.models()
            with made:
                assert client.model("double").predict(np.ones((1, 4), np.float32)).sum() == 8
        another = Broker(models=models, name=os.fspath(place / "other.sock"))
        address = another.address
        del another
        with (
            worker_client.connect(address, timeout=5) as client,
            pytest.raises(BrokerUnavailable, match="no broker answers at"),
        ):
            client.models()
