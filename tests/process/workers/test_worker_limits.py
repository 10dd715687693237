"""A worker that reaches a limit of memory or descriptors: the error of the call names the limit, its model is run once
at most, and the worker's other calls continue."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import re
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import worker_client
from tests.brokers import Gate, TestBroker, serving, wait_until
from tests.workers import in_child
from worker_client import Client, Overloaded, aio
from worker_client.calls.keras import Parts
from worker_client.wire.layout import NO_DEADLINE

MODELS = ("double", "produce", "consume", "gated")
ROW = np.ones((1, 4), np.float32)
MIB = 1 << 20
LARGE = 48 * MIB
SPARE = 24 * MIB
"""Less than `LARGE`, and more than Python takes for itself meanwhile."""
VERY_LARGE = 16 * LARGE
"""More than malloc(3) may have in reserve of what the process has freed."""
INPUT = np.zeros(LARGE, np.uint8)
MOST_MAPS = int(Path("/proc/sys/vm/max_map_count").read_text())


BLOCK = 16 * MIB
"""A region of a slot. A block of one slot has two: more than `SPARE`; four blocks are within the worker's budget."""


def address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE


@contextlib.contextmanager
def little_address_space(spare: int = SPARE) -> Iterator[str]:
    """As Odoo's workers set it for themselves; by which word it is told."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + spare, before[1]))
    try:
        yield "RLIMIT_AS"
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextlib.contextmanager
def no_more_mappings() -> Iterator[str]:
    """The process has all that it may have, none of which the kernel can join with its neighbour."""
    taken = []
    with contextlib.suppress(OSError):
        while True:
            protection = mmap.PROT_READ if len(taken) % 2 else mmap.PROT_READ | mmap.PROT_WRITE
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            taken.append(mmap.mmap(-1, mmap.PAGESIZE, flags=flags, prot=protection))
    try:
        yield "vm.max_map_count"
    finally:
        for each in taken:
            each.close()


@contextlib.contextmanager
def no_more_descriptors() -> Iterator[str]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 20, before[1]))
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open("/", os.O_PATH))
    try:
        yield "RLIMIT_NOFILE"
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def little_data() -> Iterator[str]:
    """Of the process's own memory; what it shares with the broker does not count. What malloc(3) has in reserve of what
    the process has freed is taken first: a process that ran other tests before has room for the answer there."""
    (used,) = re.findall(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (1024 * int(used) + SPARE, before[1]))
    reserve = []
    with contextlib.suppress(MemoryError):
        while True:
            reserve.append(np.empty(LARGE, np.uint8))
    try:
        yield "RLIMIT_DATA"
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


Limit = Callable[[], contextlib.AbstractContextManager[str]]
LIMITS = [
    little_address_space,
    pytest.param(
        no_more_mappings,
        marks=pytest.mark.skipif(MOST_MAPS > 1 << 20, reason="vm.max_map_count is out of reach"),
    ),
    no_more_descriptors,
]


def large_input(client: Client) -> None:
    assert int(client.model("consume").predict(INPUT)["n"]) == LARGE


def large_output(client: Client) -> None:
    assert len(client.model("produce").predict(np.int64(LARGE))) == LARGE


def large_output_of_a_future(client: Client) -> None:
    assert len(client.model("produce").submit(np.int64(LARGE)).result(60)) == LARGE


def large_output_in_place(client: Client) -> None:
    with client.model("produce").request() as request:
        request["n"][...] = LARGE
        try:
            assert len(request.run()["y"]) == LARGE
        except Overloaded:
            with pytest.raises(worker_client.BrokerError, match="make a new request"):
                request.run()
            raise


CALLS = [large_input, large_output, large_output_of_a_future, large_output_in_place]
COPIES = [large_output, large_output_of_a_future]


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_needs_more(broker: TestBroker, call: Callable[[Client], None], limit: Limit) -> None:
    """Overloaded names the limit, as often as it is met; small calls go on in between, in every slot; and once there is
    room, the call goes through."""
    check_a_call_that_needs_more(broker, call, limit)


@pytest.mark.parametrize("call", COPIES)
def test_an_answer_that_is_copied(broker: TestBroker, call: Callable[[Client], None]) -> None:
    """The same where only the process's own memory is limited."""
    check_a_call_that_needs_more(broker, call, little_data)


def check_a_call_that_needs_more(broker: TestBroker, call: Callable[[Client], None], limit: Limit) -> None:
    def child() -> list[str]:
        told = []
        with worker_client.connect(broker.address, timeout=60) as client:
            double = client.model("double")
            for _ in range(2):
                np.testing.assert_array_equal(double.submit(ROW).result(60), ROW * 2)
            client.model("produce").predict(np.int64(1))
            client.model("consume").predict(np.zeros(1, np.uint8))
            counted = broker.shared_memory_bytes()
            with limit() as word:
                for _ in range(3):
                    with pytest.raises(Overloaded) as caught:
                        call(client)
                    told.append(str(caught.value))
                    for _ in range(20):
                        np.testing.assert_array_equal(double.predict(ROW), ROW * 2)
                    assert list(client.model("produce").predict(np.int64(3))) == [0, 1, 2]
            if limit is not little_data:  # where the region is there, and stays
                wait_until(
                    lambda: broker.shared_memory_bytes() == counted, "what was not mapped to be given back"
                )
            call(client)
            call(client)
        assert all(word in text for text in told), told
        return told

    before = broker.counters("produce")["requests"]
    in_child(child)
    calls = broker.counters("produce")["requests"] - before - 1 - 3
    if call is not large_input:
        assert calls == 5, "none is run twice"
    broker.wait_for_workers()


@pytest.mark.parametrize("limit", LIMITS)
def test_under_a_loop(broker: TestBroker, limit: Limit) -> None:
    """One task has the error, those beside it their answers."""

    async def tasks() -> None:
        client = aio.connect(broker.address, timeout=60)
        double, produce = client.model("double"), client.model("produce")
        await asyncio.gather(double.predict(ROW), produce.predict(np.int64(1)))
        with limit() as word:
            for _ in range(2):
                large, *small = await asyncio.gather(
                    produce.predict(np.int64(LARGE)),
                    *[double.predict(ROW * x) for x in range(3)],
                    return_exceptions=True,
                )
                assert isinstance(large, Overloaded), large
                assert word in str(large)
                assert [answer[0, 0] for answer in small] == [0, 2, 4], small
        assert len(await produce.predict(np.int64(LARGE))) == LARGE
        await client.close()

    in_child(lambda: asyncio.run(tasks()))
    broker.wait_for_workers()


@pytest.mark.parametrize("limit", LIMITS)
def test_more_slots(limit: Limit) -> None:
    """A block of slots that cannot be mapped is told when the deadline of a call without a slot passes; it is used when
    there is room, and no other one asked for meanwhile."""

    def child(address: str, gate: Gate) -> None:
        with worker_client.connect(address, timeout=60) as client:
            model = client.model("gated")
            held = [model.submit({"number": [1], "x": np.float32([1])})]
            with limit() as word:
                for _ in range(3):
                    with pytest.raises(Overloaded, match=word):
                        model.submit({"number": [0], "x": np.float32([1])}, timeout=0.2)
            held += [model.submit({"number": [1], "x": np.float32([1])}) for _ in range(3)]
            gate.open(1)
            assert [future.result(60)["y"][0] for future in held] == [2] * 4

    with serving("gated", slots=1, max_slots=4, region_bytes=BLOCK) as broker:
        in_child(child, broker.address, broker.gate)
        broker.wait_for_workers()


@pytest.mark.parametrize("limit", LIMITS)
def test_attaching(broker: TestBroker, limit: Limit) -> None:
    """A process that cannot even attach is told, and leaves nothing; it attaches when it can."""

    def child() -> None:
        client = worker_client.connect(broker.address, timeout=60)
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)
        client.close()
        scope = little_address_space(0) if limit is little_address_space else limit()
        before = set(os.listdir("/proc/self/fd"))
        with scope as word, pytest.raises(Overloaded, match=word):
            client.model("double").predict(ROW)
        assert set(os.listdir("/proc/self/fd")) == before
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)
        client.close()

    in_child(child)
    broker.wait_for_workers()


def test_attaching_to_more_than_there_is_room_for() -> None:
    """Where the client's threads have room, and its slots have none."""

    def child(address: str) -> None:
        client = worker_client.connect(address, timeout=60)
        with little_address_space(), pytest.raises(Overloaded, match="RLIMIT_AS"):
            client.model("double").predict(ROW)
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("onesession")] == []
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)
        client.close()

    with serving("double", slots=1, max_slots=1, region_bytes=BLOCK) as broker:
        in_child(child, broker.address)
        broker.wait_for_workers()


def test_an_answer_that_nobody_waits_for(broker: TestBroker) -> None:
    """The region that it came in could not be mapped: that is nothing to the calls which have its slot next."""

    def child() -> None:
        with worker_client.connect(broker.address, timeout=60) as client:
            double, produce = client.model("double"), client.model("produce")
            double.predict(ROW)
            bound = produce.bind(NO_DEADLINE)
            (number,), layout = bound.validator.prepare(np.int64(LARGE))
            with little_address_space():
                slot = bound.channel.claim(layout.nbytes, NO_DEADLINE)
                slot.input.write_layout(layout)[0][...] = number
                bound.channel.submit(slot, bound.id, NO_DEADLINE)
                wait_until(
                    lambda: slot.done and bound.channel.has_region(slot), "the answer, which has no room"
                )
                bound.channel.release(slot)
                for _ in range(20):
                    np.testing.assert_array_equal(double.predict(ROW), ROW * 2)
            assert len(produce.predict(np.int64(LARGE))) == LARGE

    in_child(child)
    broker.wait_for_workers()


@pytest.mark.parametrize(
    "call",
    [
        lambda client, inputs: client.model("consume").predict(inputs),
        lambda client, inputs: client.model("consume").submit(inputs),
        lambda client, inputs: asyncio.run(aio.connect(client.address).model("consume").predict(inputs)),
    ],
    ids=["predict", "submit", "await"],
)
def test_inputs_that_cannot_be_converted(
    broker: TestBroker, call: Callable[[Client, object], object]
) -> None:
    """No memory of the process itself, before anything is sent: the same error, and the model is not run."""

    def child() -> None:
        with worker_client.connect(broker.address, timeout=60) as client:
            call(client, np.zeros(1, np.uint8))
            with little_address_space(), pytest.raises(Overloaded, match="RLIMIT_AS"):
                call(client, Lazy(VERY_LARGE))
            call(client, Lazy(LARGE))

    in_child(child)
    broker.wait_for_workers()


class Lazy:
    """What numpy makes an array of, which takes memory."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        return np.zeros(self._count, np.uint8)


def test_parts_that_cannot_be_joined(broker: TestBroker) -> None:
    """Each part has room, their one answer has none."""

    def child() -> None:
        with worker_client.connect(broker.address, timeout=60) as client:
            validator = client.model("double").bind(NO_DEADLINE).validator
            parts = Parts(validator, ROW.repeat(2, axis=0), 1, None, None, {})
            answer = {"y": np.broadcast_to(np.float32(1), (VERY_LARGE // 8, 4))}
            with little_address_space(), pytest.raises(Overloaded, match="RLIMIT_AS"):
                parts.join([answer, answer])

    in_child(child)
    broker.wait_for_workers()
