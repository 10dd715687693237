"""The log of the first start: `serve`, `run` and gunicorn write the same lines, with time and level."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import brokers
from tests.commands import commands
from tests.process.models import SOURCES
from tests.servers.gunicorns import gunicorn

TELL = f"tell={SOURCES['tell']}"
LINES = (
    r"^\S+ \S+ broker\[\d+\] INFO start: loading tell$",
    r"^\S+ \S+ broker\[\d+\] INFO start: serving tell at \S+$",
)


@pytest.fixture
def place() -> Iterator[Path]:
    with brokers.folder() as path:
        yield path


@pytest.fixture
def start(place: Path) -> Iterator[Any]:
    with commands(place) as start:
        yield start


def check(text: str) -> None:
    found = [re.search(line, text, re.MULTILINE) for line in LINES]
    assert all(found), text
    assert [len(re.findall(line, text, re.MULTILINE)) for line in LINES] == [1, 1]


@pytest.mark.parametrize("supervised", [(), ("--supervise",)], ids=["plain", "supervised"])
def test_serve(start: Any, supervised: tuple[str, ...]) -> None:
    command = start("serve", *supervised, "--model", TELL)
    command.wait_for("serving tell")
    check(command.seen)
    command.process.terminate()
    assert command.end()[0] == 0


def test_run(start: Any) -> None:
    status, _, said = start("run", "--model", TELL, "--", sys.executable, "-c", "").end()
    assert status == 0
    check(said)


def test_gunicorn() -> None:
    with gunicorn() as server:
        server.ask(1)
        check(server.log())


def test_a_quiet_start_is_quiet(start: Any) -> None:
    words = ("--log-level", "warning", "--", sys.executable, "-c", "")
    assert start("run", "--model", TELL, *words).end() == (0, "", "")


def test_what_cannot_be_loaded_is_not_among_what_is_served(start: Any) -> None:
    command = start("serve", "--model", TELL, "--model", "gone=/nonexistent")
    command.wait_for("serving tell at ")
    command.process.terminate()
    assert "loading tell, gone" in command.end()[2]
