"""The control thread's regular actions: they use the wake-ups of each other, and of the watchdog's question."""

from __future__ import annotations

import pytest

from broker.control_plane import server
from broker.control_plane.server import _Regular


def test_regular_actions_do_not_each_wake_an_idle_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever wakes the thread at about the time of an action runs it; alone it runs somewhat later."""
    now, done = [10.0], []
    monkeypatch.setattr(server, "monotonic", lambda: now[0])
    regular = _Regular(1.0, lambda: done.append(now[0]))
    for now[0] in (10.5, 10.89, 10.91, 11.0, 11.8, 11.95):
        regular.do_if_due()
    assert done == [10.91, 11.95]
    assert regular.latest == pytest.approx(13.05)
