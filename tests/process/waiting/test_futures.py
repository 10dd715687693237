"""`submit`: real futures. And many threads that share one client."""

from __future__ import annotations

import concurrent.futures
import signal
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker, serving, wait_until
from worker_client import BrokerUnavailable, Client, DeadlineExceeded, InvalidInput, ModelFailed
from worker_client.calls.futures import FutureDispatcher

MODELS = ("double", "tell", "gated", "gated_inline", "picky", "produce")
ROW = np.ones((1, 4), np.float32)


def gated(number: int, value: float = 1) -> dict[str, np.ndarray]:
    return {"number": np.array([number]), "x": np.array([value], np.float32)}


def test_futures_complete_with_their_own_answers(client: Client, rng: np.random.Generator) -> None:
    """Hundreds in flight, in whatever order they complete, each holds the answer to its own input."""
    model = client.model("tell")
    sent = {}
    for call in range(500):
        x = rng.random((int(rng.integers(1, 5)), 4), np.float32)
        row = np.full(len(x), call)
        sent[model.submit({"x": x, "row": row})] = x * 2.0 + row[:, None]
    for future in as_completed(sent, timeout=60):
        np.testing.assert_array_equal(future.result()["y"], sent[future])


def test_submit_returns_before_the_answer(broker: TestBroker, client: Client) -> None:
    """The caller goes on while the model runs; `result` has a time-out of its own."""
    future = client.model("gated").submit(gated(1, 3))
    assert isinstance(future, concurrent.futures.Future)
    broker.gate.wait_for(1)
    assert not future.done()
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(timeout=0.01)
    broker.gate.open(1)
    assert future.result(60)["y"] == [6]
    assert future.exception() is None


def test_errors_arrive_in_the_future(client: Client) -> None:
    """What the model raises is the future's exception; what the caller did wrong is raised at once."""
    future = client.model("picky").submit(ROW * 13)
    assert isinstance(future.exception(60), ModelFailed)
    with pytest.raises(ModelFailed, match="unlucky"):
        future.result()
    with pytest.raises(InvalidInput):
        client.model("picky").submit(np.zeros((1, 5), np.float32))


def test_callbacks_may_submit(client: Client) -> None:
    """A callback runs once per future, and may start the next call."""
    model = client.model("double")
    last: concurrent.futures.Future[np.ndarray] = concurrent.futures.Future()

    def again(future: concurrent.futures.Future[np.ndarray]) -> None:
        y = future.result()
        if y[0, 0] >= 1 << 20:
            last.set_result(y)
        else:
            model.submit(y).add_done_callback(again)

    model.submit(ROW).add_done_callback(again)
    assert last.result(60)[0, 0] == 1 << 20


def test_a_cancelled_request_is_not_run() -> None:
    """`cancel` before the model gets to it keeps it from running; others in the queue are not touched."""
    with serving("gated_inline", "double") as one_thread, worker_client.connect(one_thread.address) as client:
        model = client.model("gated_inline")

        def call(number: int) -> concurrent.futures.Future[np.ndarray]:
            return model.submit({"number": np.int64(number), "x": np.float32(number)})

        first = call(1)
        one_thread.gate.wait_for(1)
        dropped, kept = call(2), call(3)
        assert dropped.cancel()
        assert dropped.cancelled()
        with pytest.raises(CancelledError):
            dropped.result()
        one_thread.gate.open()
        assert (float(first.result(60)["y"]), float(kept.result(60)["y"])) == (2, 6)
        assert concurrent.futures.wait([dropped], timeout=60).done == {dropped}
        assert (one_thread.gate.entries(2), one_thread.gate.entries(3)) == (0, 1)


def test_what_is_done_cannot_be_cancelled(client: Client) -> None:
    """`cancel` after the answer is False and leaves the answer."""
    future = client.model("double").submit(ROW)
    np.testing.assert_array_equal(future.result(60), ROW * 2)
    assert not future.cancel()
    np.testing.assert_array_equal(future.result(), ROW * 2)


def test_cancelling_never_hits_another_call(client: Client) -> None:
    """Cancelling futures at the very moment they complete does nothing to the calls that use their slots next."""
    model = client.model("double")
    futures: list[concurrent.futures.Future[np.ndarray]] = []
    stop = threading.Event()

    def cancel() -> None:
        while not stop.is_set():
            for future in futures[-4:]:
                future.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        for call in range(1500):
            futures.append(model.submit(ROW * call))
            np.testing.assert_array_equal(model.predict(ROW * call, timeout=60), ROW * 2 * call)
    finally:
        stop.set()
        thread.join()
    done = concurrent.futures.wait(futures, timeout=60)
    assert not done.not_done
    for call, future in enumerate(futures):
        if not future.cancelled():
            np.testing.assert_array_equal(future.result(), ROW * 2 * call)


def test_a_futures_deadline_passes_without_a_waiter(broker: TestBroker, client: Client) -> None:
    """A future gets DeadlineExceeded when its time-out passes, and its slot comes back."""
    future = client.model("gated").submit(gated(8), timeout=0.05)
    assert isinstance(future.exception(60), DeadlineExceeded)
    broker.gate.open(8)
    wait_until(lambda: broker.status()["workers"][0]["in_flight"] == 0, "the end of the late run")
    answers = [
        future.result(60)["y"] for future in [client.model("gated").submit(gated(0)) for _ in range(8)]
    ]
    assert answers == [[2]] * 8


def test_closing_the_client_ends_its_futures(broker: TestBroker) -> None:
    """Futures that are under way when the client is closed get BrokerUnavailable, not silence."""
    client = worker_client.connect(broker.address)
    futures = [client.model("gated").submit(gated(9)) for _ in range(3)]
    client.close()
    broker.gate.open(9)
    for future in futures:
        assert isinstance(future.exception(60), BrokerUnavailable)


def test_callbacks_may_call_back_into_a_client_that_reconnects() -> None:
    """A callback that retries when the broker went away does not lock up with a thread that reconnects."""
    with serving("gated", "double") as mortal:
        client = worker_client.connect(mortal.address, retries=0)
        retried: concurrent.futures.Future[BaseException | None] = concurrent.futures.Future()

        def retry(future: concurrent.futures.Future[np.ndarray]) -> None:
            try:
                client.model("double").predict(ROW, timeout=5)
            except BaseException as error:
                retried.set_result(error)

        client.model("gated").submit(gated(5)).add_done_callback(retry)
        mortal.gate.wait_for(5)
        mortal.kill()
        with pytest.raises(BrokerUnavailable):
            client.model("double").predict(ROW, timeout=5)
        assert isinstance(retried.result(60), BrokerUnavailable)
        client.close()


def test_32_threads_share_a_client(client: Client) -> None:
    """Threads of one process, more than there are slots at first, get their own answers from one channel."""
    model = client.model("tell")

    def calls(thread: int) -> int:
        rng = np.random.default_rng(thread)
        for call in range(60):
            x = rng.random((int(rng.integers(1, 4)), 4), np.float32)
            row = np.full(len(x), 1000 * thread + call)
            if call % 3 == 0:
                y = model.submit({"x": x, "row": row}).result(60)["y"]
            elif call % 3 == 1:
                y = model.predict({"x": x, "row": row})["y"]
            else:
                with model.request(rows=len(x)) as request:
                    request["x"], request["row"] = x, row
                    y = request.run()["y"].copy()
            np.testing.assert_array_equal(y, x * 2.0 + row[:, None])
        return thread

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(calls, range(32))) == list(range(32))


def test_threads_grow_one_channel_at_a_time(broker: TestBroker) -> None:
    """Threads that all need more slots and larger regions at once get them, once each."""
    with worker_client.connect(broker.address) as client:
        model = client.model("produce")

        def call(thread: int) -> bool:
            n = 5000 * (1 + thread % 7)
            return all(len(model.predict(np.int64(n + call))) == n + call for call in range(20))

        with ThreadPoolExecutor(24) as pool:
            assert all(pool.map(call, range(24)))
        (worker,) = [worker for worker in broker.status()["workers"] if worker["in_flight"] == 0]
        assert worker["slots"] <= 24


def test_a_dropped_future_is_a_cancelled_request(broker: TestBroker, client: Client) -> None:
    """What nobody keeps is not run, unless a callback waits for it; and its slot comes back."""
    model = client.model("gated")
    inputs = {"number": np.array([91]), "x": np.ones(1, np.float32)}
    other = {"number": np.array([0]), "x": np.ones(1, np.float32)}
    first = model.submit(inputs)
    broker.gate.wait_for(91)
    before = broker.counters("gated")["rows"]
    called: list[int] = []
    for _ in range(5):
        model.submit(other)
    for _ in range(2):
        model.submit(other).add_done_callback(lambda future: called.append(len(future.result()["y"])))
    broker.gate.open(91)
    first.result(60)
    model.predict(other, timeout=60)
    wait_until(lambda: called == [1, 1], "the callbacks")
    assert broker.counters("gated")["rows"] == before + 1 + 2 + 1
    wait_until(lambda: sum(w["in_flight"] for w in broker.status()["workers"]) == 0, "no slot in flight")


def test_a_submit_that_is_broken_off_cancels_nobody_elses_call(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that a signal handler ends before it was submitted leaves its slot to the next call, whole: that its own
    future is dropped then does not tell the broker that nobody waits for the next one."""

    class Raised(Exception):
        """By a signal handler."""

    def interrupted(_: FutureDispatcher, _deadline_ns: int) -> None:
        raise Raised

    model = client.model("double")
    np.testing.assert_array_equal(model.predict(ROW), ROW * 2)
    for value in range(20):
        with monkeypatch.context() as patch:
            patch.setattr(FutureDispatcher, "start", interrupted)
            with pytest.raises(Raised):
                model.submit(ROW)
        np.testing.assert_array_equal(model.predict(ROW * value, timeout=60), ROW * 2 * value)


def test_what_a_handler_raises_comes_out_of_a_wait(client: Client, rng: np.random.Generator) -> None:
    """Ctrl-C is KeyboardInterrupt wherever in `result` it strikes, and the future is none the worse for it."""
    model = client.model("tell")
    x, row = np.ones((1, 4), np.float32), np.zeros(1, np.int64)
    struck = 0

    def strike(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, strike)
    try:
        for _ in range(2000):
            future = model.submit({"x": x, "row": row})
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 3e-4))
                    future.result()
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                struck += 1
            np.testing.assert_array_equal(future.result(60)["y"], x * 2.0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert struck
