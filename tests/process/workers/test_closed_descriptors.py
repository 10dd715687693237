"""An app closes the client's descriptors, and gets their numbers for files of its own: nothing happens to these, and
the client's calls go on, within their deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from time import sleep
from typing import Any

import numpy as np
import pytest
from daemon import DaemonContext

import worker_client
from tests.app_files import AppFiles, close_all, numbers
from tests.brokers import Gate, TestBroker
from tests.forks import Child
from tests.workers import Talk, worker
from worker_client import Client, DeadlineExceeded, aio
from worker_client.system.descriptor import Descriptor, identity_of, new_pipe

pytestmark = pytest.mark.alone
"""Beside other tests a number is now and then closed and taken between the client's look at it and its use, which
nobody can see (`worker_client/system/descriptor.py`), and a fork in C meets a thread that waits for the interpreter's
lock (`tests/forks.py`)."""

MODELS = ("double", "gated", "gated_stateful", "produce")
OPTIONS = {"region_bytes": 4096}
ROW = np.ones((1, 4), np.float32)
LARGE = 1_000_000
_numbers = itertools.count(100)


@pytest.fixture(autouse=True)
def none_is_left(broker: TestBroker) -> Iterator[None]:
    """Whether the broker has released the channels that their workers lost."""
    yield
    broker.wait_for_workers()


def gated(number: int) -> dict[str, np.ndarray]:
    return {"number": np.array([number]), "x": np.ones(1, np.float32)}


@contextlib.contextmanager
def too_slow(gate: Gate) -> Iterator[dict[str, np.ndarray]]:
    """Inputs of a call that does not end before its deadline, and must raise."""
    number = os.getpid() * 1000 + next(_numbers)
    with pytest.raises(DeadlineExceeded):
        yield gated(number)
    gate.open(number)


def use(client: Client, gate: Gate) -> None:
    """Calls of every kind: the answers are right, larger memory comes, a deadline ends what would not end."""
    double = client.model("double")
    for x in (2, 3):
        np.testing.assert_array_equal(double.predict(ROW * x), ROW * 2 * x)
    with too_slow(gate) as inputs:
        client.model("gated").predict(inputs, timeout=0.2)
    assert len(client.model("produce").predict(np.int64(LARGE))) == LARGE
    np.testing.assert_array_equal(double.submit(ROW).result(60), ROW * 2)
    with too_slow(gate) as inputs:
        client.model("gated").submit(inputs, timeout=0.2).result(60)


def times(start: Callable[[int], contextlib.AbstractContextManager[Any]]) -> int:
    """Start a worker for each descriptor in turn, until one says that there are no more; how many there were."""
    for which in itertools.count():
        with start(which) as child:
            if not child.result():
                return which
    raise AssertionError


def watchers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("onesession")]


def warm(client: Client, kind: str) -> None:
    """Make a client of this kind open everything that it can open."""
    model = client.model("gated")
    if kind != "predict":
        assert model.submit(gated(0), timeout=60).result()["y"] == [2]
    if kind != "submit":
        assert model.predict(gated(0), timeout=60)["y"] == [2]


@pytest.mark.parametrize("kind", ["predict", "submit", "both"])
@pytest.mark.parametrize("files", [False, True], ids=["numbers stay free", "the app opens files"])
def test_all_are_closed(broker: TestBroker, kind: str, files: bool) -> None:
    """Hand-written daemonising in the same process, after the first calls."""

    def daemonise(talk: Talk, address: str) -> None:
        client = worker_client.connect(address, timeout=60)
        warm(client, kind)
        close_all(keep=(talk.fileno(),))
        theirs = AppFiles() if files else None
        use(client, broker.gate)
        client.close()
        assert watchers() == []
        if theirs is not None:
            theirs.check()

    with worker(daemonise, broker.address, talk=True) as child:
        child.result()


def test_each_by_itself(broker: TestBroker) -> None:
    """An app that closes a descriptor of its own twice hits one of ours the second time."""

    def close_twice(talk: Talk, address: str, which: int) -> bool:
        before = numbers()
        client = worker_client.connect(address, timeout=60)
        warm(client, "both")
        ours = sorted(numbers() - before)
        if which >= len(ours):
            return False
        os.close(ours[which])
        theirs = AppFiles()
        use(client, broker.gate)
        client.close()
        theirs.check()
        return True

    assert times(lambda which: worker(close_twice, broker.address, which, talk=True)) >= 3


def test_each_as_soon_as_it_is_there(broker: TestBroker) -> None:
    """Another thread of the app closes it before anything was done with it, and opens a file under the number."""

    def close_at_once(talk: Talk, address: str, which: int) -> bool:
        theirs: list[int] = []
        made, keep = itertools.count(), Descriptor.__init__

        def keep_and_close(descriptor: Descriptor, fd: int) -> None:
            keep(descriptor, fd)
            if next(made) == which:
                os.close(descriptor.fd)
                theirs.append(os.open("/", os.O_PATH))

        Descriptor.__init__ = keep_and_close  # type: ignore[method-assign]
        with worker_client.connect(address, timeout=60) as client:
            use(client, broker.gate)
        for fd in theirs:
            assert os.readlink(f"/proc/self/fd/{fd}") == "/"
            os.close(fd)
        return bool(theirs)

    assert times(lambda which: worker(close_at_once, broker.address, which, talk=True)) >= 5


def test_a_client_that_is_closed_or_dropped_next(broker: TestBroker) -> None:
    """No call follows: its end touches nothing of the app's, and leaves no thread."""

    def end(talk: Talk, address: str, how: Callable[[Client], None]) -> None:
        client = worker_client.connect(address, timeout=60)
        warm(client, "both")
        close_all(keep=(talk.fileno(),))
        theirs = AppFiles()
        how(client)
        del client
        theirs.check()

    for how in (Client.close, lambda _: None):
        with worker(end, broker.address, how, talk=True) as child:
            child.result()


@pytest.mark.parametrize("detach", [False, True], ids=["in the same process", "in a process of its own"])
def test_python_daemon(broker: TestBroker, detach: bool) -> None:
    """It closes all descriptors, and forks twice where it detaches."""

    def daemonise(talk: Talk, address: str) -> None:
        client = worker_client.connect(address, timeout=60)
        warm(client, "both")
        with DaemonContext(detach_process=detach, working_directory="/", files_preserve=[talk.fileno()]):
            theirs = AppFiles()
            use(client, broker.gate)
            client.close()
            theirs.check()
            talk.say("it went well")
            os._exit(0)

    with worker(daemonise, broker.address, talk=True) as child:
        assert child.hear() == "it went well"


def test_what_is_stateful_is_run_once(broker: TestBroker) -> None:
    """The call that finds out that the watcher cannot be woken is not lost: it is answered, and not run again."""

    def daemonise(talk: Talk, address: str) -> list[int]:
        model = worker_client.connect(address, timeout=60).model("gated_stateful")
        orders = [int(model.predict(gated(0))["order"][0])]
        close_all(keep=(talk.fileno(),))
        theirs = AppFiles()
        orders += [int(model.predict(gated(0))["order"][0]) for _ in range(3)]
        orders.append(int(model.submit(gated(0)).result(60)["order"][0]))
        theirs.check()
        return orders

    with worker(daemonise, broker.address, talk=True) as child:
        orders = child.result()
    assert orders == list(range(orders[0], orders[0] + len(orders)))


def test_calls_under_way_when_it_happens(broker: TestBroker) -> None:
    """Calls under way when descriptors are closed are answered, or sent once more."""

    def daemonise(talk: Talk, address: str) -> list[float]:
        client = worker_client.connect(address, timeout=60)
        warm(client, "both")
        futures = [client.model("gated").submit(gated(7)) for _ in range(3)]
        talk.say()
        talk.hear()
        close_all(keep=(talk.fileno(),))
        theirs = AppFiles()
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)
        talk.say()
        answers = [float(future.result(60)["y"][0]) for future in futures]
        theirs.check()
        return answers

    with worker(daemonise, broker.address, talk=True) as child:
        child.hear()
        broker.gate.wait_for(7)
        child.say()
        child.hear()
        broker.gate.open(7)
        assert child.result() == [2.0] * 3


def test_a_stateful_call_under_way_when_it_happens(broker: TestBroker) -> None:
    """It cannot be sent once more, and need not be: the kernel keeps the connection while the watcher sleeps."""

    def daemonise(talk: Talk, address: str) -> int:
        client = worker_client.connect(address, timeout=60)
        warm(client, "submit")
        future = client.model("gated_stateful").submit(gated(8))
        talk.say()
        talk.hear()
        close_all(keep=(talk.fileno(),))
        theirs = AppFiles()
        talk.say()
        order = int(future.result(60)["order"][0])
        theirs.check()
        return order

    with worker(daemonise, broker.address, talk=True) as child:
        child.hear()
        broker.gate.wait_for(8)
        child.say()
        child.hear()
        sleep(0.2)  # time for a watcher that something woke
        broker.gate.open(8)
        assert child.result() >= 0


def test_an_event_loop_after_it(broker: TestBroker) -> None:
    """The same client in another loop, as the first one's descriptors are gone with all others."""

    def daemonise(talk: Talk, address: str) -> None:
        client = aio.connect(address, timeout=60)
        asyncio.run(use_awaiting(client, broker.gate))
        close_all(keep=(talk.fileno(),))
        theirs = AppFiles()
        asyncio.run(use_awaiting(client, broker.gate))
        theirs.check()

    with worker(daemonise, broker.address, talk=True) as child:
        child.result()


@pytest.mark.parametrize("files", [False, True], ids=["the number stays free", "the app opens files"])
def test_each_by_itself_under_a_loop(broker: TestBroker, files: bool) -> None:
    """The loop's own stay: the answer whose wake-up was lost comes all the same, and what follows."""

    async def close_twice(address: str, which: int) -> bool:
        asyncio.get_running_loop()
        before = numbers()
        client = aio.connect(address, timeout=60)
        await use_awaiting(client, broker.gate)
        ours = sorted(numbers() - before)
        if which >= len(ours):
            return False
        os.close(ours[which])
        theirs = AppFiles() if files else None
        await use_awaiting(client, broker.gate)
        await client.close()
        if theirs is not None:
            theirs.check()
        return True

    assert times(lambda which: worker(lambda: asyncio.run(close_twice(broker.address, which)))) >= 4


@pytest.mark.parametrize("files", [False, True], ids=["the number stays free", "the app opens files"])
@pytest.mark.parametrize("first", [True, False], ids=["the first loop lives", "the first loop blocks"])
def test_each_by_itself_under_several_loops(broker: TestBroker, files: bool, first: bool) -> None:
    """Then the watcher listens, too: it neither reads nor polls what is not ours, and every loop goes on."""

    def close_twice(talk: Talk, address: str, which: int) -> bool:
        client, go_on = aio.connect(address, timeout=60), threading.Event()
        with contextlib.ExitStack() as stack:
            loops = [stack.enter_context(running_loop()) for _ in range(3)]
            before = numbers()
            for loop in loops:
                run_in(loop, use_awaiting(client, broker.gate))
            ours = sorted(numbers() - before)
            if which >= len(ours):
                return False
            stack.callback(go_on.set)
            if not first:
                loops[0].call_soon_threadsafe(go_on.wait, 60)
            os.close(ours[which])
            theirs = AppFiles() if files else None
            for loop in loops[::-1] if first else loops[1:]:
                run_in(loop, use_awaiting(client, broker.gate))
            go_on.set()
            run_in(loops[0], use_awaiting(client, broker.gate))
            run_in(loops[1], client.close())
            if theirs is not None:
                theirs.check()
        return True

    assert times(lambda which: worker(close_twice, broker.address, which, talk=True)) >= 4


@contextlib.contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """In a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    run_in(loop, asyncio.to_thread(int))  # its executor's first thread is there
    yield loop
    run_in(loop, loop.shutdown_default_executor())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def run_in(loop: asyncio.AbstractEventLoop, program: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run_coroutine_threadsafe(program, loop).result(60)


def test_calls_under_way_in_several_loops(broker: TestBroker) -> None:
    """They are answered, or sent once more, though no loop begins another."""

    def close_one(talk: Talk, address: str, which: int) -> list[float]:
        client = aio.connect(address, timeout=60)
        model = client.model("gated")
        with running_loop() as one, running_loop() as other:
            before = numbers()
            for loop in (one, other):
                run_in(loop, model.predict(gated(0)))
            ours = sorted(numbers() - before)
            talk.say(len(ours))
            calls = [
                asyncio.run_coroutine_threadsafe(model.predict(gated(500 + which)), loop)
                for loop in (one, other, one, other)
            ]
            talk.hear()
            os.close(ours[which])
            theirs = AppFiles()
            talk.say()
            answers = [float(call.result(60)["y"][0]) for call in calls]
            run_in(other, client.close())
            theirs.check()
        return answers

    which, count = 0, 4
    while which < count:
        with worker(close_one, broker.address, which, talk=True) as child:
            count = child.hear()
            broker.gate.wait_for(500 + which)
            child.say()
            child.hear()
            broker.gate.open(500 + which)
            assert child.result() == [2.0] * 4
        which += 1
    assert count >= 4


async def use_awaiting(client: aio.AsyncClient, gate: Gate) -> None:
    double = client.model("double")
    np.testing.assert_array_equal(await double.predict(ROW), ROW * 2)
    with too_slow(gate) as inputs:
        await client.model("gated").predict(inputs, timeout=0.2)
    answers = await asyncio.gather(*[double.predict(ROW * x) for x in range(5)])
    assert [answer[0, 0] for answer in answers] == [0, 2, 4, 6, 8]
    assert len(await client.model("produce").predict(np.int64(LARGE))) == LARGE


def test_a_child_that_closes_what_it_inherited(broker: TestBroker) -> None:
    """Forked without Python's knowledge: it lets go of its parent's at its first call, when the numbers are its own."""

    def child(address: str) -> None:
        client = worker_client.connect(address, timeout=60)
        warm(client, "both")

        before = numbers()

        def daemon() -> str:
            close_all(keep=numbers() - before)
            theirs = AppFiles()
            use(client, broker.gate)
            theirs.check()
            return "ok"

        assert Child(daemon).result() == "ok"
        use(client, broker.gate)

    with worker(child, broker.address) as first:
        first.result()


def test_none_is_below_three(broker: TestBroker) -> None:
    """Where 0, 1 and 2 are closed, others would write their errors into what gets these numbers."""

    def without_standard(talk: Talk, address: str) -> None:
        os.closerange(0, 3)
        client = worker_client.connect(address, timeout=60)
        use(client, broker.gate)
        asyncio.run(use_awaiting(aio.connect(address, timeout=60), broker.gate))
        for fd in range(3):
            assert identity_of(fd) is None

    with worker(without_standard, broker.address, talk=True) as child:
        child.result()


def test_a_number_that_was_closed_and_taken() -> None:
    """A number that other code has closed and reused is no longer ours, and is not closed."""
    ours, other = new_pipe()
    fd = ours.fd
    assert ours.ours
    os.close(fd)
    assert not ours.ours
    taken = os.dup(other.fd)
    if taken != fd:
        os.dup2(taken, fd)
        os.close(taken)
    assert ours.ours, "the same pipe"
    with open(os.devnull) as null:
        os.dup2(null.fileno(), fd)
    assert not ours.ours
    ours.close()
    os.close(fd)
    missing = Descriptor(-1)
    assert not missing.ours
    missing.close()


@pytest.mark.parametrize("first", ["_wakeup", "_woken", "_sock"])
def test_the_watcher_closes_nothing_meanwhile(broker: TestBroker, first: str) -> None:
    """An app that closes ours one by one may be about to close the next, and to open its own under that number. What it
    leaves is closed by the call that attaches again."""

    def close_one(talk: Talk, address: str) -> None:
        client = worker_client.connect(address, timeout=60)
        double = client.model("double")
        np.testing.assert_array_equal(double.predict(ROW), ROW * 2)
        link = client._connection.channel()._link
        numbers = {name: number_of(getattr(link, name)) for name in ("_wakeup", "_woken", "_sock")}
        identities = {fd: identity_of(fd) for fd in numbers.values()}
        wakeup = os.dup(numbers["_wakeup"])
        os.close(numbers.pop(first))
        with contextlib.suppress(BrokenPipeError):  # it is awake
            os.write(wakeup, b"\0")
        os.close(wakeup)
        link._thread.join(30)
        assert not link._thread.is_alive()
        assert all(identity_of(fd) == identities[fd] for fd in numbers.values())
        np.testing.assert_array_equal(double.predict(ROW), ROW * 2)
        assert not any(identity_of(fd) == identities[fd] for fd in numbers.values())
        client.close()

    with worker(close_one, broker.address, talk=True) as child:
        child.result()


def number_of(end: Any) -> int:
    return int(end.sock.fileno() if hasattr(end, "sock") else end.fd)
