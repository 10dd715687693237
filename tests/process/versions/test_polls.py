"""Versions that come while a broker polls, and loads that fail: the old version stays in service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import worker_client
from tests import brokers
from tests.brokers import serving, wait_until
from tests.models.versions_on_disk import Versions, reload, states, version_of


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with brokers.folder() as path:
        yield path


def test_a_poll_finds_new_versions(folder: Path) -> None:
    """With `poll_seconds` no command is needed, and a broken version does not block a good one."""
    versions = Versions(folder / "found")
    versions.add(1)
    with (
        serving(models={"m": versions.source}, poll_seconds=0.02) as broker,
        worker_client.connect(broker.address) as client,
    ):
        model = client.model("m")
        assert version_of(model) == 1
        versions.add(2)
        wait_until(lambda: version_of(model) == 2, "the second version")
        versions.add(3, before="open(__file__ + '.tried', 'a').write('x'); raise RuntimeError")
        wait_until(lambda: states(broker, "m").get(3) == "END", "the third to fail")
        versions.add(4)
        wait_until(lambda: version_of(model) == 4, "the fourth version")


def test_polls_leave_the_old_version_in_service(folder: Path) -> None:
    """A version that cannot be loaded never replaces the old one, however often the broker polls."""
    versions, other = Versions(folder / "kept"), Versions(folder / "beside")
    versions.add(1)
    other.add(1)
    with (
        serving(models={"m": versions.source, "beside": other.source}, poll_seconds=0.02) as broker,
        worker_client.connect(broker.address) as client,
    ):
        model, beside = client.model("m"), client.model("beside")
        versions.add(2, before="raise RuntimeError")
        wait_until(lambda: states(broker, "m").get(2) == "END", "the second to fail")
        for number in (2, 3):  # each takes two polls of all models
            other.add(number)
            wait_until(lambda: version_of(beside) == number, "another model's version")  # noqa: B023
            assert states(broker, "m")[1] == "AVAILABLE"
            assert version_of(model) == 1


@pytest.mark.parametrize("poll_seconds", [0, 0.02], ids=["reload", "poll"])
def test_a_failed_load_is_tried_again(folder: Path, poll_seconds: float) -> None:
    """A failed load is tried again by itself while its files are unchanged; the old version serves until it
    succeeds."""
    gate = folder / f"mounted.{poll_seconds}"
    versions = Versions(folder / f"again.{poll_seconds}")
    versions.add(1)
    with (
        serving(models={"m": versions.source}, poll_seconds=poll_seconds) as broker,
        worker_client.connect(broker.address) as client,
    ):
        model = client.model("m")
        assert version_of(model) == 1
        mounted = (
            f"import pathlib\nif not pathlib.Path({str(gate)!r}).exists(): raise RuntimeError('not mounted')"
        )
        versions.add(2, before=mounted)
        if not poll_seconds:
            assert "not mounted" in reload(broker, "m")["failed"]["2"]
        wait_until(lambda: states(broker, "m") == {1: "AVAILABLE", 2: "END"}, "the second to fail")
        assert version_of(model) == 1
        gate.touch()
        wait_until(lambda: states(broker, "m") == {1: "END", 2: "AVAILABLE"}, "another try")
        assert version_of(model) == 2


# -- told ----------------------------------------------------------------------------------------------------------
