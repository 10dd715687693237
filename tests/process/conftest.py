"""One broker for the module: fixtures `broker` and `client` for modules that say which MODELS they need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import worker_client
from tests.brokers import TestBroker, serving
from worker_client import Client


@pytest.fixture(scope="module")
def broker(request: pytest.FixtureRequest) -> Iterator[TestBroker]:
    """A broker with the test module's MODELS and OPTIONS, for all its tests."""
    with serving(*request.module.MODELS, **getattr(request.module, "OPTIONS", {})) as running:
        yield running


@pytest.fixture
def client(broker: TestBroker) -> Iterator[Client]:
    with worker_client.connect(broker.address) as client:
        yield client
