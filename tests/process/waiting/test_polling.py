"""How the broker lets its workers poll, and that it reports why.

Which of the reasons holds here depends on what else the machine does; the rule itself is in
tests/unit/scheduling/test_polling.py."""

from __future__ import annotations

import time

import numpy as np
import pytest

import worker_client
from broker.data_plane.polling import NAMES
from broker.host.processors import cores
from tests.brokers import TestBroker, wait_until
from tests.workers import workers
from worker_client import Client
from worker_client.wire.layout import POLL_WORD

MODELS = ("double",)
ROW = np.ones((1, 4), np.float32)
CROWD = cores() + 2
NEIGHBOURS = {"others", "interrupted"}
"""Reasons that other tests on this machine give."""


def call_on(number: int, address: str, pause_s: float) -> None:
    """Call repeatedly until the test ends it; at most a minute."""
    model = worker_client.connect(address).model("double")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        np.testing.assert_array_equal(model.predict(ROW), 2 * ROW)
        if pause_s:
            time.sleep(pause_s)


def spin(number: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pass


def reason_and_word(broker: TestBroker, client: Client) -> tuple[str, bool]:
    """Why it is as the broker says, and whether a worker is told the same."""
    client.model("double").predict(ROW)
    said = broker.status()["waiting"]
    word = int(client._connection.channel()._words[POLL_WORD])
    return said["reason"], NAMES[word] == said["polling"]


def wait_for(broker: TestBroker, client: Client, reasons: set[str]) -> None:
    def is_so() -> bool:
        reason, same = reason_and_word(broker, client)
        return reason in reasons and same

    wait_until(is_so, f"one of {', '.join(sorted(reasons))}")


def test_a_lone_worker_may_poll(broker: TestBroker, client: Client) -> None:
    """A single worker may poll as long as nothing else computes."""
    wait_for(broker, client, {"quiet", *NEIGHBOURS})


@pytest.mark.parametrize(
    ("pause_s", "reason"), [(0.0, "crowd"), (0.004, "pauses")], ids=["without a pause", "now and then"]
)
def test_a_crowd_is_told(broker: TestBroker, client: Client, pause_s: float, reason: str) -> None:
    """More active workers than cores poll only if they keep the broker busy, and then yield."""
    with workers(CROWD, call_on, broker.address, pause_s):
        wait_for(broker, client, {reason, *NEIGHBOURS})


def test_nobody_polls_beside_programs_that_compute(broker: TestBroker, client: Client) -> None:
    """Workers do not poll beside programs that need the cores."""
    with workers(cores(), spin):
        wait_for(broker, client, {"others"})
