"""A signal handler that raises, at each place of a call where CPython may run one: no lock stays held, no slot is lost,
and every other thread goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tests.brokers import TestBroker, serving
from tests.interrupts import Interrupter
from tests.workers import in_child
from worker_client import Client, connect

X = np.full((3, 4), 7, np.float32)
TIMEOUT_S = 30.0
EVERY_OTHER = 8
"""Attaching has some thousand places; a run tries every eighth; where it begins depends on its seed."""

Code = Callable[[], object]


@pytest.fixture(scope="module")
def two_slots() -> Iterator[TestBroker]:
    """A lost slot is missed at once."""
    with serving("double", "consume", "produce", slots=2, max_slots=2) as broker:
        yield broker


def predict(client: Client) -> Code:
    return lambda: double(client)


def double(client: Client) -> None:
    assert (client.model("double").predict(X) == 2 * X).all()


def in_place(client: Client) -> Code:
    def run() -> None:
        with client.model("double").request(rows=3) as request:
            request["x"] = X
            (answer,) = request.run().values()
            assert (answer == 2 * X).all()

    return run


def future(client: Client) -> Code:
    def run() -> None:
        assert (client.model("double").submit(X).result() == 2 * X).all()

    return run


def first_future(client: Client) -> Code:
    client.close()
    double(client)
    return future(client)


def cancelled(client: Client) -> Code:
    return lambda: client.model("double").submit(X).cancel()


def mapped(client: Client) -> Code:
    def run() -> None:
        for answer in client.model("double").map([X] * 3, max_in_flight=2):
            assert (answer == 2 * X).all()

    return run


def attached(client: Client) -> Code:
    client.close()
    return predict(client)


def closed(client: Client) -> Code:
    double(client)
    return client.close


def larger(client: Client) -> Code:
    """Its inputs need a larger slot than there is, and its outputs another region."""
    client.close()
    size = 3_000_000

    def run() -> None:
        consumed = client.model("consume").predict({"x": np.ones(size, np.uint8)})
        assert (int(consumed["n"]), int(consumed["sum"])) == (size, size)
        assert len(client.model("produce").predict({"n": np.int64(size)})["y"]) == size

    return run


def waiting(client: Client) -> Code:
    """For a slot, while another thread holds both for a moment."""
    model, held = client.model("double"), threading.Event()

    def hold() -> None:
        with model.request(rows=3) as first, model.request(rows=3) as second:
            for request in (first, second):
                request["x"] = X
            held.set()
            first.run()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    def run() -> None:
        double(client)
        thread.join()

    return run


CODES = (predict, in_place, future, first_future, cancelled, mapped, attached, closed, larger, waiting)
THOUSANDS = (first_future, attached, larger)


@pytest.mark.parametrize("code", CODES, ids=lambda code: str(code.__name__))
def test_each_place_of_a_call_may_be_interrupted(
    two_slots: TestBroker, code: Callable[[Client], Code], seed: int
) -> None:
    """In a child: a number that a system call has just returned is lost with the exception, and so is a thread that
    `Thread.start` has not yet heard of."""
    in_child(_interrupt_everywhere, two_slots, code, seed)


def _interrupt_everywhere(broker: TestBroker, code: Callable[[Client], Code], seed: int) -> None:
    step = EVERY_OTHER if code in THOUSANDS else 1
    place = 1 + seed % step
    while place := _interrupted(broker, code, place, step):
        pass


def _interrupted(broker: TestBroker, code: Callable[[Client], Code], place: int, step: int) -> int:
    """Interrupt the code at one place after the other, of one client, until a slot must be lost. Where to go on."""
    with connect(broker.address, timeout=TIMEOUT_S) as client:
        double(client)
        while True:
            made, interrupter = code(client), Interrupter(place)
            interrupter.run(made)
            if not interrupter.where:
                return 0
            place += step
            if takes_a_slot_away(interrupter):
                return place
            assert not _others_find_missing(client), f"interrupted at {interrupter.where}"


def takes_a_slot_away(interrupter: Interrupter) -> bool:
    """A function that is to hand a slot on was interrupted before its first instruction."""
    return interrupter.where.endswith(("supply.py: release begins", "futures.py: submit begins"))


def _others_find_missing(client: Client) -> str:
    """What another thread does not get: both slots at a time, a future, an answer."""
    missing = ["an end"]

    def use() -> None:
        model = client.model("double")
        with model.request(rows=3) as first, model.request(rows=3) as second:
            for request in (first, second):
                request["x"] = X
                (answer,) = request.run().values()
                assert (answer == 2 * X).all()
        assert (model.submit(X).result() == 2 * X).all()

    def body() -> None:
        try:
            use()
            missing[:] = []
        except BaseException as error:
            missing[:] = [repr(error)]

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(2 * TIMEOUT_S)
    return "".join(missing)
