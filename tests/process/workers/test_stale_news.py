"""The last models message of a process may be out of date: no call is refused because of that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests import brokers
from tests.brokers import TestBroker, serving, wait_until
from tests.models.versions_on_disk import Versions
from tests.process.versions.test_versions import reload, version_of
from worker_client import Client, connect
from worker_client.attachment.metadata import VersionInfo


@pytest.fixture(scope="module")
def on_disk() -> Iterator[dict[str, Versions]]:
    """Each test has a model of its own."""
    with brokers.folder() as path:
        made = {name: Versions(path / name) for name in ("late", "aside")}
        for versions in made.values():
            versions.add(1)
        yield made


@pytest.fixture(scope="module")
def broker(on_disk: dict[str, Versions]) -> Iterator[TestBroker]:
    with serving(models={name: versions.source for name, versions in on_disk.items()}) as running:
        yield running


@pytest.fixture
def client(broker: TestBroker) -> Iterator[Client]:
    with connect(broker.address) as client:
        yield client


def test_a_refusal_rests_on_what_the_broker_says_now(
    broker: TestBroker, on_disk: dict[str, Versions], client: Client
) -> None:
    """A version is found whose news has not come yet: who asks for it may know it from elsewhere."""
    assert version_of(client.model("late")) == 1
    model_cache = client._connection.channel().model_cache
    before = model_cache.models
    on_disk["late"].add(2)
    reload(broker, "late", labels={"new": 2})
    wait_until(lambda: model_cache.models["late"].version == 2, "the news")
    for name in (2, "new"):
        model_cache.models = before  # as if they were still on their way
        assert version_of(client.model("late", name)) == 2


@pytest.mark.parametrize("version", [None, 1, "new"])
def test_a_model_that_was_set_aside_is_called_once_it_is_back(
    broker: TestBroker, client: Client, version: int | str | None
) -> None:
    """Whoever had it reloaded calls it at once, even where the news of its return is still on its way."""
    reload(broker, "aside", labels={"new": 1})
    model = client.model("aside", version)
    assert version_of(model) == 1
    model_cache = client._connection.channel().model_cache
    now = model_cache.models["aside"]
    told = VersionInfo(1, "END", "the broker's process ended 3 times", "", {}, {}, set_aside=True)
    aside = replace(now, version=None, signatures={}, versions={1: told}, labels={"new": told})
    model_cache.models = {**model_cache.models, "aside": aside}
    model.unbind()
    assert version_of(model) == 1
