"""A process that attaches and then stores garbage for thousands of requests, beside two that check every answer."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker, serving, wait_until
from tests.faults.fuzz.cases import Cases
from tests.faults.fuzz.models import REGION_BYTES, SPECS
from tests.workers import Talk, worker
from worker_client import BrokerError, Client
from worker_client.attachment.slot import Slot
from worker_client.calls.channel import Channel
from worker_client.ipc import semaphore
from worker_client.wire.layout import ENTRIES_WORD, RING_ENTRIES, TAIL_WORD

REQUESTS = 15_000
MANY_REQUESTS = 1_000_000
ANSWER_S = 0.5
"""What is lost is lost to the hostile one alone, so it need not wait long."""


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    models = {spec.name: spec for spec in SPECS}
    with serving(models=models, region_bytes=REGION_BYTES, slots=4, max_slots=8) as running:
        yield running


# -- who behaves ---------------------------------------------------------------------------------------------------


def check(client: Client, value: int) -> None:
    """One call of each kind that shares a batch or a thread with the hostile one's."""
    rows = 1 + value % 7
    x = np.full((rows, 4), value % 1000, np.float32) + np.arange(rows, dtype=np.float32)[:, None]
    for model in ("few", "double", "padded"):
        assert (client.model(model).predict(x, timeout=60) == 2 * x).all()
    widths = client.model("ragged").submit(x[:, : 1 + value % 4], timeout=60)
    total = client.model("mixed").predict(
        {
            "a": np.full((rows, 2), value % 1000, np.int32),
            "b": np.arange(rows, dtype=np.float64),
            "flag": np.ones((rows, 1, 3), bool),
        },
        timeout=60,
    )
    assert (total["total"] == 2 * (value % 1000) + np.arange(rows)).all()
    assert not total["none"].any()
    assert np.allclose(widths.result(60), x[:, : 1 + value % 4].sum(1))


def check_until_told(talk: Talk, address: str) -> int:
    """Check until told to stop. Returns the number of rounds."""
    with worker_client.connect(address) as client:
        check(client, 0)
        talk.say("ready")
        rounds = 0
        while not talk.is_told:
            rounds += 1
            check(client, rounds)
    return rounds


# -- who does not --------------------------------------------------------------------------------------------------


def push(channel: Channel, entry: int) -> None:
    """Submit by hand, whatever it is."""
    words = channel._words
    tail = words[TAIL_WORD]
    words[ENTRIES_WORD + tail % RING_ENTRIES] = entry
    words[TAIL_WORD] = (tail + 1) & ((1 << 64) - 1)
    channel._ring._submitted.release()
    channel._ring._doorbell.release()


def store(channel: Channel, cases: Cases, rng: random.Random) -> bool:
    """A case in one of the slots, or random bytes anywhere; then submit some slot, or what is none.

    False if no answer comes: in a ring of which the tail is garbage, nobody knows what was submitted.
    """
    slot = rng.choice(channel.slots)
    if rng.random() < 0.02:
        whole = channel._segments[0].bytes
        at = rng.randrange(len(whole))
        blob = rng.randbytes(rng.randrange(1, 2000))[: len(whole) - at]
        whole[at : at + len(blob)] = blob
    case = rng.choice((cases.valid, cases.wrong, cases.noise))()
    for at, word in enumerate(case.header):
        slot.words[at] = word
    table = slot.input.memory.cast("Q")
    for at, word in enumerate(case.table):
        table[at] = word
    if rng.random() < 0.01:
        slot.completed.release()
    if rng.random() < 0.005:
        push(channel, cases.word())
        return True
    push(channel, slot.index)
    return rng.random() >= 0.99 or is_answered(slot)


def is_answered(slot: Slot) -> bool:
    """Or its channel is closed."""
    limit = time.monotonic() + ANSWER_S
    while not semaphore.try_acquire(slot.completed):
        if time.monotonic() > limit:
            return False
        time.sleep(0)
    return True


def lie(address: str, seed: int, count: int) -> int:
    """Send this many garbled requests; attach again whenever the broker has hung up. Returns the number of channels
    used."""
    rng = random.Random(seed)
    channels = 0
    number = 0
    while number < count:
        client = worker_client.connect(address, timeout=30)
        with contextlib.suppress(BrokerError):
            channel = client._connection.channel()
            ids = {name: model.signatures["serving_default"].id for name, model in client.models().items()}
            cases = Cases(ids, rng.getrandbits(32))
            channels += 1
            while channel.open and number < count:
                number += 1
                if not store(channel, cases, rng):
                    break
            channel._link.close()
    return channels


def bombard(broker: TestBroker, seed: int, count: int) -> None:
    with (
        worker(check_until_told, broker.address, talk=True) as one,
        worker(check_until_told, broker.address, talk=True) as another,
        worker(lie, broker.address, seed, count) as hostile,
    ):
        assert [one.hear(), another.hear()] == ["ready", "ready"]
        pid = broker.pid
        channels = hostile.result(patience_s=900)
        for good in (one, another):
            good.say("enough")
            assert good.result() > 0
    assert channels > 1, "it was never cut off"
    assert broker.status()["pid"] == pid
    wait_until(lambda: not broker.workers(), "the hostile channels to be gone")
    wait_until(lambda: len(broker.names()) == 1, "only the doorbell to have a name")


def test_garbage_from_one_process_is_nobody_elses(broker: TestBroker, seed: int) -> None:
    """Every answer that two workers get is right while a third stores garbage in its channels, one after another."""
    bombard(broker, seed, REQUESTS)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_much_garbage_from_one_process_is_nobody_elses(broker: TestBroker, seed: int) -> None:
    """The same for a million requests."""
    bombard(broker, seed, MANY_REQUESTS)
