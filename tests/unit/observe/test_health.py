"""Alive: the threads go round. Ready: and it takes requests."""

from __future__ import annotations

from collections.abc import Callable

from broker.observe.health import Health


def at_once(action: Callable[[], None]) -> None:
    action()


def never(action: Callable[[], None]) -> None:
    pass


def test_threads_that_go_round():
    """Nothing to say."""
    health = Health({"intake": at_once, "control": at_once})
    assert health.why_not_alive() == health.why_not_ready() == ""


def test_a_thread_that_does_not():
    """It is named, and how long it had."""
    health = Health({"intake": never, "control": at_once}, patience_seconds=0.01)
    assert health.why_not_alive() == health.why_not_ready() == "no progress of intake in 0.01 s"


def test_stopping():
    """Alive, but not to be sent anything."""
    health = Health({"intake": at_once})
    health.stopping = True
    assert health.why_not_alive() == ""
    assert health.why_not_ready() == "it is being stopped"
