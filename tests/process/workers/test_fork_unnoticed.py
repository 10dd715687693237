"""A fork that Python is not told of, as uWSGI's and C libraries': the child has a channel of its own all the same."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import itertools
import os
import signal
import sys
import threading
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client
from tests.brokers import PATIENCE_S, TestBroker, wait_until
from tests.forks import c_child, in_c_child
from tests.process.workers.test_fork import ask
from tests.workers import Talk, in_child, worker
from worker_client import BrokerUnavailable, Client, Model, aio
from worker_client.connection import Connection
from worker_client.interpreter import fork
from worker_client.ipc.waiting import WaitMode

MODELS = ("double", "tell", "gated")
ROW = np.ones((1, 4), np.float32)
CHILD_CALLS = 50


@pytest.fixture
def used(client: Client) -> Client:
    """A client whose parent has called in every way: it has a channel, a watcher and a thread for futures."""
    client.model("double").predict(ROW)
    client.model("double").submit(ROW).result(PATIENCE_S)
    return client


def gated(number: int) -> dict[str, np.ndarray]:
    return {"number": np.array([number]), "x": np.ones(1, np.float32)}


def test_children_and_their_parent_get_their_own_answers(broker: TestBroker, used: Client) -> None:
    """Two children call at the same time as their parent, whose channel they have inherited."""
    model = used.model("tell")
    ask(model, 1, 1)
    with c_child(ask, model, 2) as one, c_child(ask, model, 3) as other:
        assert ask(model, 1) == CHILD_CALLS
        assert (one.result(), other.result()) == (CHILD_CALLS, CHILD_CALLS)
    assert ask(model, 1) == CHILD_CALLS


def test_a_child_of_a_child_and_one_that_forks_before_it_calls(used: Client) -> None:
    """Each generation notices, whether the one before has called or not."""
    model = used.model("tell")
    ask(model, 1, 1)

    def child() -> int:
        return in_c_child(lambda: in_c_child(ask, model, 2) + ask(model, 3)) + ask(model, 4)

    def child_that_calls_first() -> int:
        return ask(model, 5) + in_c_child(ask, model, 6) + ask(model, 7)

    assert in_c_child(child) == 3 * CHILD_CALLS
    assert in_c_child(child_that_calls_first) == 3 * CHILD_CALLS
    assert ask(model, 1) == CHILD_CALLS


def test_threads_inside_calls_at_the_moment_of_the_fork(broker: TestBroker, used: Client) -> None:
    """The child has none of those threads and waits for none of their locks; from its first call on Python knows that
    they are gone, and it has threads of its own. The parent's calls are answered."""
    model, held = used.model("tell"), used.model("gated")
    answers: list[float] = []

    def wait_inside(number: int) -> None:
        answers.append(float(held.predict(gated(number), timeout=PATIENCE_S)["y"][0]))

    def child() -> list[int]:
        found = [ask(model, 100, 5)]
        assert not {thread.name for thread in threading.enumerate()} & {thread.name for thread in inside}
        threads = [threading.Thread(target=lambda: found.append(ask(model, 100, 5))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    numbers = range(30, 34)
    inside = [threading.Thread(target=wait_inside, args=(n,), name=f"inside {n}") for n in numbers]
    for thread in inside:
        thread.start()
    try:
        broker.wait_for_in_flight(len(inside))
        for _ in range(3):
            with c_child(child) as one, c_child(child) as other:
                assert (one.result(), other.result()) == ([5] * 4, [5] * 4)
    finally:
        for number in numbers:
            broker.gate.open(number)
        for thread in inside:
            thread.join()
    assert answers == [2] * len(inside)


def test_every_way_to_call(broker: TestBroker, used: Client) -> None:
    """predict, submit, map, a request and a task, all on handles that the parent has used."""
    model = used.model("double")
    tasks = aio.connect(broker.address)
    asyncio.run(_await(tasks))

    def in_a_loop() -> Any:
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(asyncio.run(_await(tasks))))
        thread.start()
        thread.join()
        return answers[0]

    def child() -> list[Any]:
        answers = [model.predict(ROW), model.submit(ROW).result(PATIENCE_S), *model.map([ROW])]
        with model.request() as request:
            request["x"] = 1
            answers.append(request.run()["y"].copy())
        return [*answers, in_a_loop()]

    async def parent() -> list[Any]:
        """Its loop is still there in the child."""
        await tasks.model("double").predict(ROW)
        answers = in_c_child(child)
        assert (await tasks.model("double").predict(ROW) == 2).all()
        await tasks.close()
        return list(answers)

    answers = asyncio.run(parent())
    assert len(answers) == 5
    assert all((answer == 2).all() for answer in answers)


async def _await(tasks: aio.AsyncClient) -> Any:
    return await tasks.model("double").predict(ROW)


def test_what_the_parent_has_under_way_ends_in_the_child(broker: TestBroker, used: Client) -> None:
    """Its request, result and futures say whose they are; nobody hangs on them, and the parent's go on."""
    called: list[int] = []
    request = used.model("double").request()

    def child() -> list[str]:
        told = []
        assert wait([future], timeout=PATIENCE_S).done == {future}
        for use in (
            future.result,
            request.run,
            lambda: request["x"],
            lambda: result["y"],
        ):
            with pytest.raises(BrokerUnavailable) as caught:
                use()
            told.append(str(caught.value))
        assert not future.cancel()
        return told

    future = used.model("gated").submit(gated(1))
    future.add_done_callback(lambda _: called.append(os.getpid()))
    with request:
        request["x"] = 5
        result = request.run()
        assert all("forked from" in text for text in in_c_child(child))
        assert (request["x"] == 5).all()
        assert (request.run()["y"] == 10).all()
    broker.gate.open(1)
    assert future.result(PATIENCE_S)["y"] == [2]
    assert called == [os.getpid()]


@pytest.mark.parametrize("first_it_calls", [True, False])
def test_a_child_touches_nothing_of_its_parents(
    broker: TestBroker, used: Client, first_it_calls: bool
) -> None:
    """It closes, drops and collects all that it has inherited, and the parent's call is neither cancelled nor woken."""
    first, second = (10, 11) if first_it_calls else (20, 21)
    handles: dict[str, Any] = {"client": used, "future": used.model("gated").submit(gated(first))}
    broker.gate.wait_for(first)
    answers: list[Any] = []
    waiter = threading.Thread(target=lambda: answers.append(used.model("gated").predict(gated(second))))

    def child() -> None:
        if first_it_calls:
            handles["client"].model("double").predict(ROW)
        handles["client"].close()
        handles.clear()
        gc.collect()

    waiter.start()
    try:
        broker.wait_for_in_flight(2)
        in_c_child(child)
        assert os.getpid() in broker.workers()
    finally:
        broker.gate.open(first)
        broker.gate.open(second)
        waiter.join(PATIENCE_S)
    assert [float(answer["y"][0]) for answer in answers] == [2]
    assert float(handles["future"].result(PATIENCE_S)["y"][0]) == 2
    assert ask(used.model("tell"), 4) == CHILD_CALLS


def test_a_child_that_calls_holds_nothing_of_its_parents_connections(
    broker: TestBroker, used: Client
) -> None:
    """With its first call it lets go of all of them, those of clients included that it does not use."""

    def child(ready: int, over: int) -> None:
        with worker_client.connect(broker.address) as own:
            own.model("double").predict(ROW)
            os.write(ready, b"1")
            os.read(over, 1)

    (hear, ready), (over, end) = os.pipe(), os.pipe()
    try:
        with c_child(child, ready, over) as idle:
            os.read(hear, 1)
            used.close()
            wait_until(lambda: broker.workers() == [idle.pid], "the parent's end")
            os.write(end, b"1")
            idle.result()
    finally:
        for fd in (hear, ready, over, end):
            os.close(fd)


def test_a_fork_while_another_thread_attaches(broker: TestBroker) -> None:
    """The child does not wait for the thread whose turn it was to attach."""
    with worker_client.connect(broker.address) as client:
        model = client.model("tell")
        broker.signal(signal.SIGSTOP)
        try:
            thread = threading.Thread(target=ask, args=(model, 1, 1))
            thread.start()
            wait_until(lambda: client._connection._link is not None, "attaching")
            with c_child(ask, model, 2) as child:
                broker.signal(signal.SIGCONT)
                assert child.result() == CHILD_CALLS
        finally:
            broker.signal(signal.SIGCONT)
            thread.join()


def test_copies_made_before_any_fork_notice_it(used: Client) -> None:
    """What went through copy.deepcopy serves children of both kinds of forks, and the parent goes on."""
    model: Model = copy.deepcopy(used.model("tell"))
    ask(model, 1, 1)

    def child(talk: Talk) -> None:
        talk.say(ask(model, 2))

    with worker(child, talk=True) as one, worker(child, talk=True) as other, c_child(ask, model, 3) as third:
        assert (one.hear(), other.hear(), third.result()) == (CHILD_CALLS,) * 3
    assert ask(model, 1) == CHILD_CALLS


def test_a_kernel_that_wipes_nothing(broker: TestBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the pid says which process it is."""
    monkeypatch.setattr(fork, "_wipes", False)
    monkeypatch.setattr(fork, "_process", fork.Process())
    with worker_client.connect(broker.address) as client:
        model = client.model("tell")
        ask(model, 1, 1)
        with c_child(ask, model, 2) as child:
            assert ask(model, 1) == CHILD_CALLS
            assert child.result() == CHILD_CALLS


def test_a_child_that_comes_back_from_a_signal_handler_into_its_parents_call(
    broker: TestBroker, used: Client
) -> None:
    """That call is the parent's: the child is told so, and takes no answer from it."""
    reader, writer = os.pipe()
    parent = os.getpid()

    def fork_within(*_: object) -> None:
        if next(times):
            return
        pid = fork_child()
        if pid:
            children.append(pid)
            forked.set()

    def interrupt_it() -> None:
        """Again and again: a signal that comes right before the call blocks does not wake it."""
        broker.gate.wait_for(5)
        while not forked.is_set():
            os.kill(parent, signal.SIGUSR1)
            forked.wait(0.01)

    times, forked = itertools.count(), threading.Event()
    children: list[int] = []
    before = signal.signal(signal.SIGUSR1, fork_within)
    interrupt = threading.Thread(target=interrupt_it)
    opener = threading.Thread(target=lambda: (os.read(reader, 1), broker.gate.open(5)))
    interrupt.start()
    opener.start()
    try:
        answer = used.model("gated").predict(gated(5), timeout=PATIENCE_S)
    except BrokerUnavailable as error:
        if os.getpid() != parent:
            os.write(writer, b"1")
            os._exit(0 if "forked from" in str(error) else 3)
        raise
    finally:
        if os.getpid() != parent:
            os._exit(4)
        forked.set()
        interrupt.join()
        signal.signal(signal.SIGUSR1, before)
    opener.join()
    ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    os.close(reader)
    os.close(writer)
    assert float(answer["y"][0]) == 2
    assert ends == [0]


def fork_child() -> int:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
    return pid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its root")
def test_one_owner_that_fails_keeps_none_from_letting_go() -> None:
    """All that is registered, and still is, is called in a child and in its children."""

    class Owner:
        def __init__(self, error: Exception | None = None) -> None:
            self.called, self.error = 0, error
            fork.register(self, Owner.after_fork_in_child)

        def after_fork_in_child(self) -> None:
            self.called += 1
            if self.error is not None:
                raise self.error

    owners = [Owner(), Owner(OSError("no")), Owner(), Owner()]
    fork.unregister(owners[3])

    def calls() -> list[int]:
        with contextlib.suppress(OSError):
            fork.here()
        return [owner.called for owner in owners]

    assert in_c_child(calls) == [1, 1, 1, 0]
    assert in_c_child(lambda: (calls(), in_c_child(calls))[1]) == [2, 2, 2, 0]
    assert calls() == [0, 0, 0, 0]


def test_a_release_that_a_signal_handler_breaks_off_begins_again() -> None:
    """With the next question which process this is: no owner is left out."""

    class Owner:
        def __init__(self, interrupted: bool = False) -> None:
            self.called, self.interrupted = 0, interrupted
            fork.register(self, Owner.after_fork_in_child)

        def after_fork_in_child(self) -> None:
            self.called += 1
            if self.interrupted and self.called == 1:
                raise KeyboardInterrupt

    owners = [Owner(), Owner(interrupted=True), Owner()]

    def calls() -> list[int]:
        with contextlib.suppress(KeyboardInterrupt):
            fork.here()
        fork.here()
        return [owner.called for owner in owners]

    assert in_c_child(calls) == [2, 2, 1]
    for owner in owners:
        fork.unregister(owner)


def test_the_threads_of_a_child_wait_until_its_parents_things_are_released() -> None:
    """uWSGI starts the threads of a worker after a fork that Python is not told of: none begins before another has
    released what it would begin with."""

    class Owner:
        process = fork.here()

        def after_fork_in_child(self) -> None:
            Owner.process = fork.here()
            inside.set()
            early.append(passed.wait(0.5))

    def pass_by() -> None:
        inside.wait()
        fork.here()
        passed.set()

    def child() -> tuple[list[bool], bool]:
        other = threading.Thread(target=pass_by)
        other.start()
        process = fork.here()
        other.join()
        return early, process is fork.here() is Owner.process

    inside, passed, early = threading.Event(), threading.Event(), list[bool]()
    owner = Owner()
    fork.register(owner, Owner.after_fork_in_child)
    assert in_c_child(child) == ([False], True)


def test_the_threads_of_a_child_attach_once(used: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one has attached to, no other takes for its parent's."""
    releases: list[None] = []
    release = Connection.after_fork_in_child

    def counted(connection: Connection) -> None:
        releases.append(None)
        release(connection)

    monkeypatch.setattr(Connection, "after_fork_in_child", counted)
    connection, model = Connection(Path(used.address), WaitMode.BLOCK), used.model("double")
    model.predict(ROW)

    def call() -> None:
        together.wait()
        connection.channel()
        answers.append(model.predict(ROW, timeout=PATIENCE_S / 2))

    def child() -> tuple[int, int]:
        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        sys.setswitchinterval(1e-6)
        for thread in threads:
            thread.join()
        return len(answers), len(releases)

    together, answers = threading.Barrier(8), list[np.ndarray]()
    for _ in range(20):
        assert in_c_child(child) == (8, 1)


def test_what_a_child_makes_before_it_notices_is_its_own() -> None:
    """It was registered in the child, so it is not let go of there."""

    def child() -> list[str]:
        release_model: list[str] = []
        made = threading.Event()
        fork.register(made, lambda _: release_model.append("its own"))
        fork.here()
        return release_model

    assert in_c_child(child) == []


def test_without_proc_the_number_of_threads_is_unknown(tmp_path: Path) -> None:
    """Only a process known to have a single thread calls Python's fork hooks, which would forget any other thread."""

    def without_proc() -> int:
        os.chroot(tmp_path)
        return fork._threads()

    def counted() -> tuple[int, int]:
        return fork._threads(), len(os.listdir("/proc/self/task"))

    known, there = in_child(counted)
    assert known == there  # libraries that other tests have loaded may start a thread in each child
    assert in_child(without_proc) == 0


@pytest.mark.skipif(
    tuple(map(int, os.uname().release.split(".")[:2])) < (4, 14),
    reason="MADV_WIPEONFORK came with Linux 4.14",
)
def test_the_kernel_wipes_the_word_of_a_child() -> None:
    """Reading the word then takes no system call."""
    assert isinstance(fork.new_word(), memoryview)
