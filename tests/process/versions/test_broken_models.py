"""A broker with a model that cannot be loaded beside one that can."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker, serving
from worker_client import ModelNotFound

CAUSE = "model 'broken' from 'no_such_module:f' cannot be loaded: there is no module 'no_such_module'"


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    models = {
        "broken": "no_such_module:f",
        "leaving": "tests.process.leaving_models:factory",
        "good": "broker.models.python.echo:echo",
    }
    with serving(models=models) as made:
        yield made


def test_the_others_are_served(broker):
    """The other models are served as if nothing was wrong."""
    with worker_client.connect(broker.address) as client:
        assert client.model("good").predict(np.zeros((2, 128), np.float32)).shape == (2, 10)


def test_who_calls_it_learns_the_cause(broker):
    """A caller of the broken model learns the cause at the first call, without waiting."""
    with worker_client.connect(broker.address) as client, pytest.raises(ModelNotFound) as caught:
        client.model("broken").predict(np.zeros((2, 128), np.float32))
    assert "no version of model 'broken' can be called" in str(caught.value)
    assert CAUSE in str(caught.value)


def test_a_model_that_ends_the_process_does_not(broker):
    """`sys.exit()` in a model's code is reported like any other failure."""
    with worker_client.connect(broker.address) as client, pytest.raises(ModelNotFound) as caught:
        client.model("leaving").predict(np.zeros(1))
    assert "cannot be loaded: calling it raised SystemExit: 3. It has no signature" in str(caught.value)


def test_it_is_told_by_broker_models(broker):
    """`onesession models` shows the broken model with its state and the cause."""
    done = subprocess.run(
        [sys.executable, "-m", "broker", "models", "--name", broker.address],
        capture_output=True,
        text=True,
        check=True,
    )
    shown = " ".join(done.stdout.replace("│", " ").split())
    assert "version 1: END since" in shown
    assert "there is no module 'no_such_module'" in shown
