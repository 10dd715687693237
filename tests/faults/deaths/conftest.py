"""Fixtures of the tests in which a broker or a worker dies."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.brokers import TestBroker, serving


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Iterator[TestBroker]:
    """A broker with the test module's MODELS and OPTIONS, for one test: it may die."""
    with serving(*request.module.MODELS, **getattr(request.module, "OPTIONS", {})) as running:
        yield running


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool
