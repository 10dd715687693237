"""Slots and regions that grow by demand, and the budgets that bound them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import wait

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker, serving
from tests.workers import Talk, worker
from worker_client import Client, DeadlineExceeded, Overloaded
from worker_client.ipc.segment import Segment
from worker_client.wire.layout import NO_DEADLINE

MODELS = ("consume", "produce", "gated", "double")
MIB = 1 << 20


def pattern(nbytes: int) -> np.ndarray:
    return np.resize(np.arange(251, dtype=np.uint8), nbytes)


@pytest.mark.parametrize("nbytes", [4000, 5000, MIB, 10 * MIB, 3 * MIB + 1, 100])
def test_inputs_outgrow_their_region(client: Client, nbytes: int) -> None:
    """A request of any size is taken in; no size is configured."""
    x = pattern(nbytes)
    y = client.model("consume").predict({"x": x})
    assert (int(y["sum"]), int(y["n"])) == (int(x.sum(dtype=np.int64)), nbytes)


def test_outputs_outgrow_their_region(client: Client) -> None:
    """An answer of a size that nobody knew before is delivered, growing and shrinking on the same slot."""
    model = client.model("produce")
    for nbytes in (10, 5000, MIB, 10, 10 * MIB, 7 * MIB, 12 * MIB, 0, 4096):
        np.testing.assert_array_equal(model.predict(np.int64(nbytes)), pattern(nbytes))


def test_large_outputs_reach_futures_and_requests(client: Client) -> None:
    """Outputs that outgrow their region arrive through `submit` and `request` just as through `predict`."""
    model = client.model("produce")
    futures = [model.submit(np.int64(n)) for n in (MIB, 2 * MIB, 3)]
    assert [len(future.result(60)) for future in futures] == [MIB, 2 * MIB, 3]
    with model.request() as request:
        for nbytes in (3, 4 * MIB, 5 * MIB):
            request["n"] = nbytes
            np.testing.assert_array_equal(request.run()["y"], pattern(nbytes))


def test_slots_are_added_by_demand(broker: TestBroker, client: Client) -> None:
    """A channel starts with `slots` slots and gets more blocks as more requests are in flight."""
    model = client.model("gated")
    inputs = {"number": np.zeros(1, np.int64), "x": np.ones(1, np.float32)}
    model.predict(inputs)
    (worker,) = broker.status()["workers"]
    assert worker["slots"] == 8
    futures = [model.submit({**inputs, "number": np.array([7])}) for _ in range(20)]
    (worker,) = broker.status()["workers"]
    assert worker["slots"] == 24
    broker.gate.open(7)
    assert [future.result(60)["y"].tolist() for future in futures] == [[2.0]] * 20


@pytest.fixture
def small() -> Iterator[TestBroker]:
    """A broker with little memory: a channel may have 1 MiB, all together 1.5 MiB, and 4 slots at most."""
    with serving(
        *MODELS, slots=2, max_slots=4, max_channel_bytes=MIB, max_total_bytes=MIB + MIB // 2
    ) as running:
        yield running


def test_an_input_past_the_channels_budget_is_refused_by_name(small: TestBroker) -> None:
    """Overloaded names max_channel_bytes; the channel works on, and large requests within the budget too."""
    with worker_client.connect(small.address) as client:
        for _ in range(3):
            with pytest.raises(Overloaded, match="max_channel_bytes"):
                client.model("consume").predict({"x": pattern(2 * MIB)})
            x = pattern(600_000)
            assert client.model("consume").predict({"x": x})["sum"] == x.sum(dtype=np.int64)


def test_an_output_past_the_channels_budget_is_refused_by_name(small: TestBroker) -> None:
    """The caller gets Overloaded instead of the answer; the next answer that fits is delivered."""
    with worker_client.connect(small.address) as client:
        model = client.model("produce")
        for _ in range(3):
            with pytest.raises(Overloaded, match="max_channel_bytes"):
                model.predict(np.int64(2 * MIB))
            np.testing.assert_array_equal(model.predict(np.int64(600_000)), pattern(600_000))
            np.testing.assert_array_equal(model.predict(np.int64(100)), pattern(100))


def consume(talk: Talk, address: str) -> None:
    """Hold memory for a large request until told to go."""
    with worker_client.connect(address) as client:
        client.model("consume").predict({"x": pattern(900_000)})
        talk.say("held")
        talk.hear()


def test_the_total_budget_is_shared_and_given_back(small: TestBroker) -> None:
    """Memory that one worker holds is not available to the next; when the first ends, the next gets it."""
    with worker(consume, small.address, talk=True) as first, worker_client.connect(small.address) as second:
        assert first.hear() == "held"
        with pytest.raises(Overloaded, match="max_total_bytes"):
            second.model("consume").predict({"x": pattern(900_000)})
        first.say()
        first.result()
        small.wait_for_workers(os.getpid())
        assert second.model("consume").predict({"x": pattern(900_000)})["n"] == 900_000


def test_the_clients_of_a_process_share_its_budget(small: TestBroker) -> None:
    """All clients of a process share its budget, so that one worker cannot take everything; a closed client does not
    count."""
    with worker_client.connect(small.address) as first, worker_client.connect(small.address) as second:
        first.model("consume").predict({"x": pattern(400_000)})
        second.model("consume").predict({"x": pattern(400_000)})
        third = worker_client.connect(small.address)
        with third, pytest.raises(Overloaded, match="max_channel_bytes"):
            third.model("consume").predict({"x": pattern(400_000)})
        for _ in range(3):
            first.close()
            small.wait_for_workers(os.getpid())
            first.model("consume").predict({"x": pattern(400_000)})


def test_refused_growth_is_counted_right(small: TestBroker) -> None:
    """Whatever is refused, what the status counts is what is there, and it is all given back in the end."""
    empty = small.shared_memory_bytes()
    with worker_client.connect(small.address) as client:
        consume, produce = client.model("consume"), client.model("produce")
        produce.predict(np.int64(300_000))
        held = small.shared_memory_bytes()
        for _ in range(4):
            with pytest.raises(Overloaded):
                produce.predict(np.int64(5 * MIB))
            with pytest.raises(Overloaded):
                consume.predict({"x": pattern(5 * MIB)})
        assert small.shared_memory_bytes() == held
        (worker,) = small.status()["workers"]
        assert worker["shared_memory_bytes"] == held - empty
    with worker_client.connect(small.address) as client:
        client.models()
        small.wait_for_workers(os.getpid())


def test_all_slots_in_flight_is_back_pressure_then_overloaded(small: TestBroker) -> None:
    """With every slot in flight, callers wait for one; past their deadline Overloaded names max_slots."""
    with worker_client.connect(small.address) as client:
        model = client.model("gated")
        futures = [model.submit({"number": np.array([1]), "x": np.ones(1, np.float32)}) for _ in range(4)]
        with pytest.raises(Overloaded, match="max_slots"):
            model.predict({"number": np.array([1]), "x": np.ones(1, np.float32)}, timeout=0.05)
        waiting = model.submit  # a fifth call waits its turn and gets it
        small.gate.wait_for(1)
        small.gate.open(1)
        fifth = waiting({"number": np.array([1]), "x": np.full(1, 5, np.float32)})
        assert fifth.result(60)["y"] == [10]
        assert all(future.result(60)["y"] == [2] for future in futures)


def test_no_memory_for_more_slots_is_back_pressure_too() -> None:
    """If the budget allows no further block, calls wait for the existing slots."""
    with (
        serving("gated", slots=2, max_slots=64, max_channel_bytes=24_000) as broker,
        worker_client.connect(broker.address) as client,
    ):
        model = client.model("gated")
        inputs = {"number": np.array([1]), "x": np.ones(1, np.float32)}
        futures = [model.submit(inputs) for _ in range(2)]
        with pytest.raises(Overloaded, match="max_channel_bytes"):
            model.predict(inputs, timeout=0.05)
        broker.gate.open()
        futures += [model.submit(inputs) for _ in range(40)]
        done, undone = wait(futures, timeout=60)
        assert not undone
        assert all(future.result()["y"] == [2] for future in done)


def test_a_deadline_does_not_lose_a_grown_region() -> None:
    """A slot whose caller gave up while its output grew is used again with its new region."""
    with (
        serving("gated_produce", slots=1, max_slots=1) as broker,
        worker_client.connect(broker.address) as client,
    ):
        model = client.model("gated_produce")
        for number in (1, 2, 3):
            late = model.submit({"number": np.int64(number), "n": np.int64(number * MIB)}, timeout=0.2)
            broker.gate.wait_for(number)
            assert isinstance(late.exception(60), DeadlineExceeded)
            broker.gate.open(number)
            y = model.predict({"number": np.int64(0), "n": np.int64(number * MIB + 5)}, timeout=60)
            np.testing.assert_array_equal(y["y"], pattern(number * MIB + 5))


def test_blocks_that_are_opened_in_another_order(broker: TestBroker) -> None:
    """A signal handler's call may ask for slots, and open them, while the call that it interrupted opens its own: the
    names of those are there still."""
    with worker_client.connect(broker.address) as client:
        channel = client.model("double").bound_by(None)[0].channel
        outer, inner = (channel._ask({"op": "slots"}, NO_DEADLINE) for _ in range(2))
        for reply, fds in (inner, outer):
            segment = Segment.attach(fds.pop(), reply["nbytes"])
            channel._add_block(reply["block"], segment, NO_DEADLINE)
            channel.ask_for_models(60)  # the broker has heard that they are opened
        assert len(channel.slots) == len({slot.index for slot in channel.slots})
        futures = [
            client.model("double").submit(np.full((1, 4), n, np.float32)) for n in range(len(channel.slots))
        ]
        for n, future in enumerate(futures):
            np.testing.assert_array_equal(future.result(60), np.full((1, 4), 2 * n))
