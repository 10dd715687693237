"""Waiting for a notification: who is woken, and what a signal handler that raises leaves behind."""

from __future__ import annotations

import threading
import time

from tests.interrupts import Interrupter
from worker_client.interpreter.condition import Condition

LONG_S = 30.0


class Queue:
    """Threads that wait in turn, and what each has seen."""

    def __init__(self) -> None:
        self.condition = Condition()
        self.items: list[int] = []
        self.taken: list[int] = []

    def take(self) -> None:
        with self.condition:
            while not self.items:
                self.condition.wait(LONG_S)
            self.taken.append(self.items.pop())

    def put(self, item: int) -> None:
        with self.condition:
            self.items.append(item)
            self.condition.notify()


def test_each_notification_wakes_one() -> None:
    queue = Queue()
    threads = [threading.Thread(target=queue.take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for item in range(4):
        queue.put(item)
    for thread in threads:
        thread.join(LONG_S)
    assert sorted(queue.taken) == [0, 1, 2, 3]


def test_a_wait_ends_without_a_notification() -> None:
    condition = Condition()
    with condition:
        condition.wait(0.01)
        condition.wait(-1.0)


def test_a_lock_taken_twice_is_given_up_for_the_wait() -> None:
    """By a signal handler that calls what its thread was interrupted in."""
    queue = Queue()
    thread = threading.Thread(target=_hold_twice, args=(queue,))
    thread.start()
    queue.put(7)
    thread.join(LONG_S)
    assert queue.taken == [7]


def _hold_twice(queue: Queue) -> None:
    with queue.condition:
        queue.take()


def test_an_interrupted_wait_leaves_the_lock_free_and_loses_no_notification() -> None:
    """At each place of it. The others are woken by a notification that comes then, at once or within a second."""
    place = 1
    while True:
        queue, interrupter = Queue(), Interrupter(place)
        other = threading.Thread(target=queue.take)
        other.start()
        interrupter.run(lambda: _wait_a_moment(queue))  # noqa: B023 - it is over before the next queue
        assert not queue.condition._is_owned(), interrupter.where  # type: ignore[attr-defined]
        queue.put(place)
        other.join(LONG_S)
        assert queue.taken == [place], interrupter.where
        if not interrupter.where:
            break
        place += 1
    assert place > 10


def _wait_a_moment(queue: Queue) -> None:
    with queue.condition:
        end = time.monotonic() + 0.001
        while time.monotonic() < end:
            queue.condition.wait(0.001)
