"""A start that is waited for, at the moments at which its broker may write, let go of the lock or be followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.control_plane import awaited_start
from broker.control_plane.address_lock import AddressLock
from broker.control_plane.awaited_start import AwaitedStart
from tests.brokers import folder
from worker_client.system.held import is_held


@pytest.fixture
def path() -> Iterator[Path]:
    with folder() as place:
        yield place / "b.sock"


def when_looked_at(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Have this happen after the note was read, and before it is seen who holds the lock; once."""
    acts = [act]

    def held(lock: Path) -> bool:
        if acts:
            acts.pop()()
        return is_held(lock)

    monkeypatch.setattr(awaited_start, "is_held", held)


def test_a_start_that_fails_between_the_two_looks_says_why(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last note was written after ours was read, and counts all the same."""
    start = AwaitedStart(path)
    try:
        lock = AddressLock(path)
        lock.note(os.getpid(), loading=True)
        assert start.why_failed() == ""

        def fail() -> None:
            lock.note_failure("no such model")
            lock.release()

        when_looked_at(monkeypatch, fail)
        assert start.why_failed() == "no such model"
    finally:
        start.close()


def test_a_broker_without_a_last_word(path: Path) -> None:
    """It was loading, and is gone."""
    start = AwaitedStart(path)
    try:
        lock = AddressLock(path)
        lock.note(os.getpid(), loading=True)
        lock.release()
        assert "without giving a reason" in start.why_failed()
    finally:
        start.close()
