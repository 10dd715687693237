"""Signals while a call waits: handlers run, the wait goes on; what a handler raises comes out and costs nothing."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tests.brokers import TestBroker, serving, wait_until
from worker_client import BrokerError, Client, DeadlineExceeded, connect
from worker_client.ipc.semaphore import Semaphore

MODELS = ("gated", "double")
OPTIONS = {"slots": 2, "max_slots": 2}

SetHandler = Callable[[Callable[[], None]], None]
_numbers = itertools.count(1)


class SoftTimeLimit(Exception):
    """What Celery's handler raises, or pytest-timeout's."""


@pytest.fixture
def at_signal() -> Iterator[SetHandler]:
    """Sets what SIGUSR1 does in this test."""

    def set_handler(action: Callable[[], None]) -> None:
        signal.signal(signal.SIGUSR1, lambda number, frame: action())

    before = signal.getsignal(signal.SIGUSR1)
    yield set_handler
    signal.signal(signal.SIGUSR1, before)


def interrupt(until: threading.Event) -> None:
    """Signal the main thread until its handler has set the event. One signal may come just before the thread
    blocks: then its handler runs at the next one, as everywhere in CPython."""
    main = threading.main_thread().ident
    assert main is not None
    for _ in range(600):
        signal.pthread_kill(main, signal.SIGUSR1)
        if until.wait(0.05):
            return
    raise AssertionError("the handler never ran")


@contextlib.contextmanager
def once_in_the_model(broker: TestBroker, number: int, action: Callable[[], None]) -> Iterator[None]:
    """In the block, a thread acts as soon as the request is in the model, so while its caller waits."""

    def body() -> None:
        broker.gate.wait_for(number)
        action()

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def request(number: int) -> dict[str, np.ndarray]:
    return {"number": np.array([number]), "x": np.ones(1, np.float32)}


def test_handlers_run_and_the_wait_goes_on(broker: TestBroker, client: Client, at_signal: SetHandler) -> None:
    """A caller that is signalled ten times while it blocks gets its answer all the same."""
    number = next(_numbers)
    seen = threading.Event()
    at_signal(seen.set)

    def signals() -> None:
        for _ in range(10):
            seen.clear()
            interrupt(until=seen)
        broker.gate.open(number)

    with once_in_the_model(broker, number, signals):
        y = client.model("gated").predict(request(number))["y"]
    assert y == [2]


@pytest.mark.parametrize("error", [SoftTimeLimit, SystemExit, KeyboardInterrupt, ValueError])
def test_what_a_handler_raises_comes_out(
    broker: TestBroker, client: Client, at_signal: SetHandler, error: type[BaseException]
) -> None:
    """The exception of a signal handler ends the call that waits, whatever its class."""
    number = next(_numbers)
    raised = threading.Event()

    def fail() -> None:
        if not raised.is_set():
            raised.set()
            raise error("from the handler")

    at_signal(fail)
    model = client.model("gated")
    with (
        once_in_the_model(broker, number, lambda: interrupt(until=raised)),
        pytest.raises(error, match="from the handler"),
    ):
        model.predict(request(number), timeout=30)
    broker.gate.open(number)


def test_interrupted_calls_lose_no_slot(broker: TestBroker, client: Client, at_signal: SetHandler) -> None:
    """However often calls are interrupted, all slots are there for the next ones."""
    raised = threading.Event()

    def fail() -> None:
        if not raised.is_set():
            raised.set()
            raise SoftTimeLimit

    at_signal(fail)
    model = client.model("gated")
    for number in itertools.islice(_numbers, 8):
        raised.clear()
        with (
            once_in_the_model(broker, number, lambda: interrupt(until=raised)),
            pytest.raises(SoftTimeLimit),
        ):
            model.predict(request(number), timeout=30)
        broker.gate.open(number)
    futures = [model.submit(request(0)) for _ in range(2)]
    assert [future.result(30)["y"] for future in futures] == [[2], [2]]


@pytest.mark.parametrize("grown", ["input", "slots"])
def test_an_interrupted_growth_is_made_good(at_signal: SetHandler, grown: str) -> None:
    """A call that is interrupted while it asks for memory leaves both sides with the same idea of what there is."""
    raised = threading.Event()

    def fail() -> None:
        if not raised.is_set():
            raised.set()
            raise SoftTimeLimit

    at_signal(fail)
    with serving("consume", "gated", slots=2, max_slots=6) as broker, connect(broker.address) as client:
        consume, gated = client.model("consume"), client.model("gated")
        consume.predict(np.ones(10, np.uint8))
        futures = [gated.submit(request(1)) for _ in range(2 if grown == "slots" else 0)]
        with asking_in_vain(broker, client, lambda: interrupt(until=raised)), pytest.raises(SoftTimeLimit):
            consume.predict(np.ones(20_000, np.uint8), timeout=60)
        for nbytes in (10, 20_000, 10, 30_000, 100):
            assert consume.predict(np.ones(nbytes, np.uint8), timeout=60)["sum"] == nbytes
        broker.gate.open()
        futures += [gated.submit(request(0)) for _ in range(8)]
        assert all(future.result(60)["y"] == [2] for future in futures)


@contextlib.contextmanager
def asking_in_vain(broker: TestBroker, client: Client, action: Callable[[], None]) -> Iterator[None]:
    """In the block the broker answers nothing; a thread acts as soon as somebody waits for its answer."""

    def body() -> None:
        connection = client._connection
        wait_until(lambda: connection._link and connection._link._waiting, "a request on the control plane")
        action()

    thread = threading.Thread(target=body)
    broker.signal(signal.SIGSTOP)
    try:
        thread.start()
        yield
        thread.join()
    finally:
        broker.signal(signal.SIGCONT)


@pytest.mark.parametrize("seconds", [0.0005, 0.003])
def test_interrupts_at_any_moment_lose_nothing(
    client: Client, at_signal: SetHandler, rng: np.random.Generator, seconds: float
) -> None:
    """A timer that raises at random moments of thousands of calls costs those calls, no slot and no answer."""
    model = client.model("double")
    client.models()  # attach: what an interrupted handshake leaves to the garbage collector is not our subject
    armed = False
    interrupted = 0

    def fail() -> None:
        if armed:
            raise SoftTimeLimit

    def fire() -> None:
        for wait in itertools.cycle(rng.uniform(0, seconds, 1000)):
            if stop.wait(wait):
                return
            signal.pthread_kill(main, signal.SIGUSR1)

    at_signal(fail)
    main = threading.main_thread().ident
    assert main is not None
    stop = threading.Event()
    thread = threading.Thread(target=fire)
    thread.start()
    try:
        for call in range(3000):
            x = np.full((1, 4), call, np.float32)
            try:
                armed = True
                y = model.predict(x, timeout=20)
                armed = False
            except SoftTimeLimit:
                armed = False
                interrupted += 1
            else:
                np.testing.assert_array_equal(y, x * 2)
    finally:
        armed = False
        stop.set()
        thread.join()
    assert interrupted
    futures = [model.submit(np.ones((1, 4), np.float32)) for _ in range(2)]
    assert all((future.result(30) == 2).all() for future in futures)


@pytest.mark.parametrize("seconds", [0.0005, 0.003])
def test_a_handler_may_call_at_any_moment(
    client: Client, at_signal: SetHandler, rng: np.random.Generator, seconds: float
) -> None:
    """A handler that makes calls of its own, at random moments of thousands of calls, hangs neither them nor itself."""
    model = client.model("double")
    client.models()  # attached: while a call attaches, a handler is refused
    model.submit(np.ones((1, 4), np.float32)).result(60)  # and so while it makes the first future
    handled, inside = 0, False

    def call() -> None:
        nonlocal handled, inside
        if inside:
            return
        inside = True
        x = np.full((1, 4), 1 + handled, np.float32)
        y = model.predict(x, timeout=60) if handled % 2 else model.submit(x, timeout=60).result()
        assert (y == 2 * x).all()
        handled += 1
        inside = False

    at_signal(call)
    main = threading.main_thread().ident
    assert main is not None
    stop = threading.Event()

    def fire() -> None:
        for wait in itertools.cycle(rng.uniform(0, seconds, 1000)):
            if stop.wait(wait):
                return
            signal.pthread_kill(main, signal.SIGUSR1)

    thread = threading.Thread(target=fire)
    thread.start()
    try:
        for number in range(2000):
            x = np.full((1, 4), number, np.float32)
            y = model.submit(x).result(60) if number % 3 == 0 else model.predict(x, timeout=60)
            assert (y == 2 * x).all()
    finally:
        stop.set()
        thread.join()
    assert handled


class Signalling:
    """A semaphore whose every post brings this thread a signal, just after it."""

    def __init__(self, real: Semaphore) -> None:
        self._real = real

    def release(self) -> None:
        self._real.release()
        signal.raise_signal(signal.SIGUSR1)


@pytest.mark.parametrize("which", ["_submitted", "_doorbell"])
def test_a_handler_may_call_in_the_middle_of_a_submission(
    client: Client, at_signal: SetHandler, which: str
) -> None:
    """A call that is interrupted while its thread holds the ring's tail, and the handler's own, are both answered."""
    model = client.model("double")
    answers: list[np.ndarray] = []
    inside = False

    def call() -> None:
        nonlocal inside
        if not inside:
            inside = True
            answers.append(model.predict(np.full((1, 4), len(answers), np.float32), timeout=60))
            inside = False

    at_signal(call)
    ring = client._connection.channel()._ring
    setattr(ring, which, Signalling(getattr(ring, which)))
    for number in range(50):
        x = np.full((1, 4), 1000 + number, np.float32)
        y = model.submit(x).result(60) if number % 2 else model.predict(x, timeout=60)
        assert (y == 2 * x).all()
    assert [answer[0, 0] for answer in answers] == [2.0 * number for number in range(50)]


def test_a_handler_that_calls_while_its_thread_attaches_is_refused(
    broker: TestBroker, at_signal: SetHandler
) -> None:
    """It is told so, instead of waiting for the call that it has interrupted."""
    seen: list[BaseException] = []
    called = threading.Event()

    def call() -> None:
        if not called.is_set():
            try:
                client.model("double").predict(np.ones((1, 4), np.float32))
            except BrokerError as error:
                seen.append(error)
            called.set()

    at_signal(call)
    with connect(broker.address) as client:
        with asking_in_vain(broker, client, lambda: interrupt(until=called)), pytest.raises(DeadlineExceeded):
            client.model("double").predict(np.ones((1, 4), np.float32), timeout=2)
        assert "a signal handler cannot call" in str(seen)
        assert (client.model("double").predict(np.ones((1, 4), np.float32)) == 2).all()
