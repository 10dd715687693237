"""`Broker(models={...})` with objects of this process among what is loaded; and what `start` gives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client
from broker import Broker, signature
from tests import brokers
from tests.process.models import SOURCES
from tests.workers import worker

X = np.ones((2, 4), np.float32)


@signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
def pid(x: Any) -> Any:
    return np.full_like(x, os.getpid())


@pytest.fixture
def address() -> Iterator[str]:
    with brokers.folder() as path:
        yield str(path / "b.sock")


def ask(address: str, model: str) -> Any:
    with worker_client.connect(address, timeout=30) as client:
        return client.model(model).predict(X)


def test_functions_are_served_from_here_beside_what_is_loaded(address: str) -> None:
    """With settings in a dict, as every model may have them."""
    models = {"pid": pid, "set": {"source": pid, "max_batch_size": 8}, "double": SOURCES["double"]}
    with Broker(models, address) as broker:
        assert broker.pid == os.getpid()
        for name in ("pid", "set"):
            with worker(ask, address, name) as child:
                np.testing.assert_array_equal(child.result(), np.full_like(X, os.getpid()))
        with worker(ask, address, "double") as child:
            np.testing.assert_array_equal(child.result(), X * 2)


def note(place: Path, parent: int) -> None:
    assert (worker_client.connect().model("pid").predict(X) == np.float32(parent)).all()
    (place / os.environ["BROKER_WORKER_INDEX"]).touch()


def test_workers_of_run_workers_call_them(address: str, tmp_path: Path) -> None:
    assert Broker({"pid": pid}, address).run_workers(note, 2, (tmp_path, os.getpid()), max_restarts=0) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def test_start_returns_the_broker(address: str) -> None:
    broker = Broker({"pid": pid}, address)
    assert broker.start() is broker
    broker.stop()


@pytest.mark.parametrize("model", [pid, SOURCES["double"]], ids=["of this process", "of its own"])
def test_a_broker_that_nobody_keeps_warns(address: str, model: Any) -> None:
    """Once it is started; stopped, or never started, it goes quietly."""
    engine = None

    def start() -> None:
        nonlocal engine
        engine = Broker({"m": model}, address).start()._process

    with pytest.warns(
        ResourceWarning,
        match=f"the broker at {address} is running, but no reference to it is left: use `with",
    ):
        start()
    assert engine is not None
    engine.stop()
    Broker({"m": model}, address)
