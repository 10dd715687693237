"""Handles made before a fork work in parent, child and grandchild, each on a channel of its own."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest

import worker_client
from broker.config.settings import Settings
from broker.models.spec import ModelSpec
from broker.server.server import Server
from tests.brokers import TestBroker, folder, wait_until
from tests.workers import Talk, in_child, worker, workers
from worker_client import BrokerError, Client, Model
from worker_client.system.descriptor import identity_of

MODELS = ("double", "tell", "gated")
ROW = np.ones((1, 4), np.float32)


@pytest.fixture
def used(client: Client) -> Client:
    """A client that has made calls, so that it has a channel, a watcher and a thread for futures."""
    client.model("double").predict(ROW)
    client.model("double").submit(ROW).result(60)
    return client


def ask(model: Model, number: int, calls: int = 50) -> int:
    """Check `calls` answers; how many there were."""
    for call in range(calls):
        x = np.full((2, 4), call, np.float32)
        row = np.array([number, call])
        y = model.predict({"x": x, "row": row}, timeout=60)["y"]
        np.testing.assert_array_equal(y, x * 2.0 + row[:, None])
        y = model.submit({"x": x, "row": row}).result(60)["y"]
        np.testing.assert_array_equal(y, x * 2.0 + row[:, None])
    return calls


def test_handles_made_before_the_fork_work_in_children(broker: TestBroker) -> None:
    """A client and a model made before the fork, and never used, serve eight children (gunicorn --preload)."""
    client = worker_client.connect(broker.address)
    with workers(8, lambda number: ask(client.model("tell"), number)) as children:
        assert [child.result() for child in children] == [50] * 8


def test_handles_used_before_the_fork_work_in_children(used: Client) -> None:
    """The same when the parent has already called: children attach by themselves, the parent goes on."""
    model = used.model("tell")
    ask(model, 100, 1)
    with workers(4, lambda number: ask(model, number)) as children:
        assert ask(model, 100) == 50
        assert [child.result() for child in children] == [50] * 4
    assert ask(model, 100) == 50


def test_grandchildren_work_like_children(used: Client) -> None:
    """A fork of a fork has a channel of its own as well; nobody's calls disturb the others'."""
    model = used.model("tell")

    def child() -> int:
        return ask(model, 1) + in_child(lambda: ask(model, 2)) + ask(model, 3)

    assert in_child(child) == 150
    assert ask(model, 4) == 50


def test_each_process_has_its_own_channel(broker: TestBroker, used: Client) -> None:
    """The broker sees parent and children as workers of their own, and children's ends as they come."""

    def child(talk: Talk) -> None:
        used.model("double").predict(ROW)
        talk.say(os.getpid())
        talk.hear()

    with worker(child, talk=True) as one, worker(child, talk=True) as other:
        pids = {os.getpid(), one.hear(), other.hear()}
        assert set(broker.workers()) == pids
        one.say()
        one.result()
        wait_until(lambda: set(broker.workers()) == pids - {one.pid}, "the end of the first child")
        other.say()
        other.result()
    wait_until(lambda: broker.workers() == [os.getpid()], "the end of the other child")
    used.model("double").predict(ROW)


def test_a_child_holds_nothing_of_its_parents_connection(broker: TestBroker, used: Client) -> None:
    """When the parent closes, the broker sees it go, though children of it live on."""

    def child(talk: Talk) -> None:
        talk.say()
        talk.hear()

    with worker(child, talk=True) as idle:
        idle.hear()
        used.close()
        wait_until(lambda: broker.workers() == [], "the parent's end")
        idle.say()
        idle.result()


def test_a_child_forked_while_its_parent_attaches_holds_no_connection(broker: TestBroker) -> None:
    """A fork in the middle of another thread's attaching keeps nothing of it open in the child."""

    def child(talk: Talk) -> None:
        sockets = [fd for fd in os.listdir("/proc/self/fd") if is_unix_socket(f"/proc/self/fd/{fd}")]
        talk.say(len(sockets))
        talk.hear()

    with worker_client.connect(broker.address) as client:
        model = client.model("double")
        with worker(child, talk=True) as quiet:
            usual = quiet.hear()
        broker.signal(signal.SIGSTOP)
        try:
            thread = threading.Thread(target=model.predict, args=(ROW,))
            thread.start()
            wait_until(
                lambda: any(t.name == "onesession-watcher" for t in threading.enumerate()), "attaching"
            )
            with worker(child, talk=True) as forked:
                held = forked.hear()
        finally:
            broker.signal(signal.SIGCONT)
            thread.join()
    assert held == usual


def is_unix_socket(path: str) -> bool:
    try:
        return os.readlink(path).startswith("socket:")
    except FileNotFoundError:
        return False


def test_fork_while_other_threads_are_in_calls(broker: TestBroker, client: Client) -> None:
    """Forking with calls under way in threads harms neither those calls nor the children's."""
    model = client.model("tell")
    stop = threading.Event()
    counts = []

    def busy(number: int) -> None:
        count = 0
        while not stop.is_set():
            count += ask(model, number, 1)
        counts.append(count)

    threads = [threading.Thread(target=busy, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for round_ in range(6):
            with workers(2, lambda number: ask(model, 100 + number, 10)) as children:
                assert [child.result() for child in children] == [10, 10], round_
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(counts) == 4
    assert min(counts) > 0


def test_a_request_made_before_the_fork_is_not_written_in_the_child(used: Client) -> None:
    """A child that enters its parent's request is refused, for the memory is the parent's."""
    request = used.model("double").request()

    def child() -> str:
        with pytest.raises(BrokerError) as caught, request:
            request["x"] = 99
        return str(caught.value)

    with request:
        request["x"] = 5
        assert "forked from" in in_child(child)
        assert (request["x"] == 5).all()
        assert (request.run()["y"] == 10).all()


def test_a_child_that_is_killed_takes_nothing_from_its_parent(broker: TestBroker, used: Client) -> None:
    """SIGKILL of a child in the middle of a call leaves the parent's channel as it was."""

    def child(talk: Talk) -> None:
        used.model("gated").predict({"number": np.array([1]), "x": np.ones(1, np.float32)})

    with worker(child, talk=True) as victim:
        broker.gate.wait_for(1)
        victim.kill()
    broker.gate.open(1)
    assert ask(used.model("tell"), 7) == 50


def test_an_interpreter_ends_with_calls_under_way(broker: TestBroker) -> None:
    """A worker whose main thread returns while futures are unfinished ends at once and cleanly."""

    def child() -> int:
        client = worker_client.connect(broker.address)
        future = client.model("gated").submit({"number": np.array([2]), "x": np.ones(1, np.float32)})
        broker.gate.wait_for(2)
        assert not future.done()
        return os.getpid()

    pid = in_child(child)
    wait_until(lambda: pid not in broker.workers(), "the worker's end at the broker")
    broker.gate.open(2)


def test_a_grandchild_closes_nothing_of_its_parents() -> None:
    """A child lets go of the broker on threads of its parent; the numbers that are free then are its own."""

    def child() -> list[int]:
        opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(64)]
        return list(in_child(lambda: [fd for fd in opened if identity_of(fd) is None]))

    with folder() as place:
        models = tuple(ModelSpec.coerce_all({"double": "tests.process.models:double"}))
        server = Server(Settings(models=models, address=os.fspath(place / "b.sock"), tune="off"))
        server.start()
        try:
            assert in_child(child) == []
        finally:
            server.stop()
