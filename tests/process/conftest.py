"""`broker` and `client`: one broker for a module that says which MODELS it needs. `start`: commands in a `place` of
that belongs to each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import brokers
from tests.brokers import TestBroker, serving
from tests.commands import commands


@pytest.fixture(scope="module")
def broker(request: pytest.FixtureRequest) -> Iterator[TestBroker]:
    """A broker with the test module's MODELS and OPTIONS, for all its tests."""
    with serving(*request.module.MODELS, **getattr(request.module, "OPTIONS", {})) as running:
        yield running


@pytest.fixture
def place() -> Iterator[Path]:
    with brokers.folder() as path:
        yield path


@pytest.fixture
def start(place: Path) -> Iterator[Any]:
    """Starts commands, at the address of this test, and ends them."""
    with commands(place) as start:
        yield start
