"""The intake beside what else computes in its process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import worker_client
from broker.control_plane.query import ask
from broker.host.time_slice import SLICE_NS, ask_for_short_turns
from tests.brokers import TestBroker, serving, wait_until

ROW = np.ones((1, 4), np.float32)


def in_a_hurry(broker: TestBroker) -> int:
    """How many of the broker's threads want short turns."""
    tasks = Path(f"/proc/{broker.pid}/task").glob("*/sched")
    lines = [line.split() for task in tasks for line in task.read_text().splitlines()]
    slices = [int(words[-1]) for words in lines if words[:1] == ["se.slice"]]
    if not slices:
        pytest.skip("this kernel does not tell of slices")
    return slices.count(SLICE_NS)


@pytest.mark.parametrize("what", ["heavy", "load"])
def test_the_intake_wants_short_turns_once_it_has_company(what: str) -> None:
    """A heavy model's thread, or one that loads; neither of which has short turns itself."""
    with ThreadPoolExecutor(1) as other:
        if not other.submit(ask_for_short_turns).result(30):
            pytest.skip("this kernel has no slices to choose (Linux 6.12 has)")
    with (
        serving("picky_heavy", "double") as broker,
        worker_client.connect(broker.address) as client,
    ):
        client.model("double").predict(ROW)
        assert in_a_hurry(broker) == 0
        if what == "heavy":
            client.model("picky_heavy").predict(ROW)
        else:
            ask(broker.address, "reload", 60, models=["double"])
        wait_until(lambda: in_a_hurry(broker) == 1, "short turns of the intake")
