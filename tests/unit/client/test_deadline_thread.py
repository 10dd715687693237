"""The watcher and a waiter write deadlines at the same time: none that was just set is lost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from worker_client.attachment.listeners import Listeners
from worker_client.calls.channel import Channel

FIRST, NEXT = 10, 100


class SetMeanwhile:
    """Whose next deadline is set just after the watcher has read the last one."""

    def __init__(self) -> None:
        self._deadline_ns = FIRST
        self._read = False
        self.expired_ns = 0
        self.woken = 0
        self.loop = SimpleNamespace(is_closed=lambda: False)

    @property
    def deadline_ns(self) -> int:
        deadline_ns = self._deadline_ns
        if not self._read:
            self._read, self._deadline_ns = True, NEXT
        return deadline_ns

    @deadline_ns.setter
    def deadline_ns(self, deadline_ns: int) -> None:
        self._deadline_ns = deadline_ns

    def wake(self) -> None:
        self.woken += 1


@pytest.mark.parametrize("of", ["a slot", "an event loop"])
def test_a_deadline_that_is_set_while_the_last_one_passes(of: str) -> None:
    """The waiter is woken for the first and for the next one, once for each."""
    waiter: Any = SetMeanwhile()
    listeners = Listeners()
    channel: Any = SimpleNamespace(slots=[], listeners=listeners, _post=SetMeanwhile.wake)
    if of == "a slot":
        channel.slots.append(waiter)
    else:
        listeners.join(waiter)
    Channel.expire(channel, FIRST)
    assert waiter.woken == 1
    assert Channel.expire(channel, FIRST + 1) == NEXT
    Channel.expire(channel, NEXT)
    Channel.expire(channel, NEXT + 1)
    assert waiter.woken == 2
