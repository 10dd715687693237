"""What the broker tells its workers about polling, by how many of them are active and how busy it is."""

from __future__ import annotations

import time

import numpy as np
import pytest

import worker_client
from broker.host.processors import cores
from tests.brokers import TestBroker, wait_until
from tests.workers import workers
from worker_client import Client
from worker_client.wire.layout import POLL_FREELY, POLL_GIVING_WAY, POLL_NOT, POLL_WORD

MODELS = ("double",)
ROW = np.ones((1, 4), np.float32)
CROWD = cores() + 2


def told(client: Client) -> int:
    client.model("double").predict(ROW)
    return int(client._connection.channel()._words[POLL_WORD])


def call_on(number: int, address: str, pause_s: float) -> None:
    """Calls, one after the other, for as long as the test lets it live; at most a minute."""
    model = worker_client.connect(address).model("double")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        np.testing.assert_array_equal(model.predict(ROW), 2 * ROW)
        if pause_s:
            time.sleep(pause_s)


def test_a_lone_worker_may_poll(client: Client) -> None:
    """As long as there are no more active workers than cores."""
    wait_until(lambda: told(client) == POLL_FREELY, "leave to poll")


@pytest.mark.parametrize(
    ("pause_s", "word"), [(0.0, POLL_GIVING_WAY), (0.004, POLL_NOT)], ids=["without a pause", "now and then"]
)
def test_a_crowd_is_told(broker: TestBroker, client: Client, pause_s: float, word: int) -> None:
    """More active workers than cores poll only if they keep the broker busy, and then give way. When they are gone, one
    may poll again."""
    with workers(CROWD, call_on, broker.address, pause_s):
        wait_until(lambda: told(client) == word, f"{word} of a crowd")
    wait_until(lambda: told(client) == POLL_FREELY, "leave to poll")
