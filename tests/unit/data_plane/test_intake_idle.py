"""What the intake thread does while no requests come, but others in its process ask it things."""

from __future__ import annotations

import os
import threading

import pytest

from broker.data_plane.intake import Intake
from broker.models.lifecycle.repository import Repository
from worker_client.ipc import semaphore
from worker_client.ipc.waiting import WaitMode


class CountingIntake(Intake):
    """Counts how often it decides how long to poll for the next request."""

    polls = 0

    def has_answered(self, requests: int) -> None:
        self._may_poll = requests > 0

    def _poll_budget_ns(self) -> int:
        self.polls += 1
        return super()._poll_budget_ns()


@pytest.mark.parametrize("mode", WaitMode)
@pytest.mark.parametrize("requests", [0, 1])
def test_a_question_of_its_own_process_does_not_begin_polling(mode: WaitMode, requests: int) -> None:
    """The watch asks once a second. If each question began a poll, an idle broker would keep a core busy."""
    doorbell = semaphore.create(f"/onesession.unit.{os.getpid()}.idle")
    semaphore.unlink(doorbell)
    intake = CountingIntake(Repository(), doorbell, mode, lambda channel: None)
    intake.has_answered(requests)
    thread = threading.Thread(target=intake.run)
    thread.start()
    try:
        for _ in range(5):
            asked = threading.Event()
            intake.call(asked.set)
            assert asked.wait(30)
    finally:
        intake.stop()
        thread.join()
    assert intake.polls == requests
