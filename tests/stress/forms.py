"""The forms of a call. Each makes a few calls and checks every answer; a wrong one is an AssertionError.

A form lets through the errors of patient calls, of which `verdicts.py` says when they may be; what comes of calls that
are in a hurry it counts itself.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import numpy as np

from tests.interrupts import Interrupted
from tests.stress.board import Board, Ends
from tests.stress.verdicts import HURRIED, verdict
from worker_client import BrokerError, Client, ModelFailed

MODELS = ("double", "tell", "mixed", "consume", "produce", "picky", "picky_heavy")
BAD_VALUE = 13.0
CHILD_SECONDS = 100

Form = Callable[["Caller"], None]


class Caller:
    """One thread's client, its own random numbers, and how its calls have ended."""

    def __init__(
        self,
        client: Client,
        closings: Ends,
        seed: str,
        board: Board,
        step: Callable[[], None],
        others_descriptors: frozenset[int] = frozenset(),
    ) -> None:
        self.client = client
        self.closings = closings  # of this client
        self.random = random.Random(seed)
        self.ends: Counter[str] = Counter()
        self.board = board
        self.others_descriptors = others_descriptors  # that were there before the client
        self._step = step  # told after each call

    def value(self) -> int:
        return self.random.randrange(100, 10_000)

    def rows(self) -> int:
        return self.random.choice((1, 1, 1, 2, 3, 7, 40))

    def inputs(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Inputs of `tell`, and the `y` that only they have."""
        rows, value = self.rows(), self.value()
        x = np.full((rows, 4), value, np.float32) + np.arange(4, dtype=np.float32)
        row = np.arange(rows) + 7 * value
        return {"x": x, "row": row}, x * 2.0 + row[:, None]

    def count(self, end: str) -> None:
        self.ends[end] += 1
        self._step()

    def attempt(self, form: Form) -> None:
        """Make a call and count its outcome. Raises Fault for an outcome that must not happen."""
        brokers, closings = self.board.broker_ends, self.closings
        cleanings = self.board.cleanings
        brokers_over, closings_over, cleanings_over = brokers.over, closings.over, cleanings.over
        try:
            form(self)
        except BrokerError as error:
            ends = brokers.since(brokers_over), closings.since(closings_over), cleanings.since(cleanings_over)
            self.count(verdict(error, *ends, cleaned=cleanings_over > 0))
        else:
            self.count("answered")


@contextlib.contextmanager
def hurried(caller: Caller, seconds: float | None) -> Iterator[None]:
    """Counts what becomes of a call with so short a timeout, if it has one."""
    try:
        yield
    except HURRIED as error:
        if seconds is None:
            raise
        caller.count(f"in a hurry: {type(error).__name__}")


def same(answer: Any, expected: np.ndarray) -> None:
    """Every bit of it."""
    assert answer.shape == expected.shape, f"an answer of shape {answer.shape} in place of {expected.shape}"
    assert (answer == expected).all(), f"the answer {answer} in place of {expected}"


# -- calls that wait ------------------------------------------------------------------------------------------------


def predict(caller: Caller) -> None:
    inputs, expected = caller.inputs()
    answer = caller.client.model("tell").predict(inputs)
    same(answer["y"], expected)


def predict_heavy(caller: Caller) -> None:
    x = np.full((caller.rows(), 4), caller.value(), np.float32)
    same(caller.client.model("picky_heavy").predict(x), 2 * x)


def several_inputs(caller: Caller) -> None:
    rows, value = caller.rows(), caller.value()
    a = np.arange(2 * rows, dtype=np.int32).reshape(rows, 2) * value
    flag = caller.random.random() < 0.5
    answer = caller.client.model("mixed").predict(
        {"a": a, "b": np.full(rows, value, np.float64), "flag": np.full((rows, 1, 3), flag)}
    )
    same(answer["total"], a.sum(1) + float(value))
    same(answer["swapped"], a[:, ::-1])
    same(answer["none"], np.full((rows, 3), not flag))


def guilty(caller: Caller) -> None:
    """A request that the model refuses, maybe in a batch with others."""
    try:
        caller.client.model("picky").predict(np.full((1, 4), BAD_VALUE, np.float32))
    except ModelFailed as error:
        told = str(error)
    else:
        told = "an answer"
    assert "unlucky row 0" in told, f"{told} in place of the model's error"


def in_place(caller: Caller) -> None:
    """Written and read in shared memory, several times in one block."""
    rows = caller.rows()
    with caller.client.model("tell").request(rows=rows) as request:
        for _ in range(3):
            value = caller.value()
            request["x"], request["row"] = value, np.arange(rows)
            same(request.run()["y"], np.full((rows, 4), 2.0 * value) + np.arange(rows)[:, None])


def in_a_hurry(caller: Caller) -> None:
    """With a timeout that may or may not be long enough."""
    inputs, expected = caller.inputs()
    seconds = caller.random.choice((1e-6, 1e-4, 3e-4, 1e-3, 3e-3))
    with hurried(caller, seconds):
        same(caller.client.model("tell").predict(inputs, timeout=seconds)["y"], expected)


def large_inputs(caller: Caller) -> None:
    """More than the slot's region holds, so that it grows."""
    x = np.full(caller.random.randrange(1, 300_000), caller.random.randrange(256), np.uint8)
    answer = caller.client.model("consume").predict({"x": x})
    assert (int(answer["n"]), int(answer["sum"])) == (len(x), len(x) * int(x[0])), (
        f"{answer} for {len(x)} bytes"
    )


def large_outputs(caller: Caller) -> None:
    """An output whose size is not known before the run."""
    n = caller.random.randrange(1, 300_000)
    answer = caller.client.model("produce").predict({"n": np.int64(n)})
    same(answer["y"], np.resize(np.arange(251, dtype=np.uint8), n))


# -- futures -------------------------------------------------------------------------------------------------------


def futures(caller: Caller) -> None:
    """Several at once, of which some are cancelled and some have no time."""
    pending = []
    for _ in range(caller.random.randrange(2, 12)):
        inputs, expected = caller.inputs()
        seconds = caller.random.choice((None, None, None, 1e-4, 2e-3))
        with hurried(caller, seconds):
            pending.append((caller.client.model("tell").submit(inputs, timeout=seconds), expected, seconds))
    for future, _, _ in pending:
        if caller.random.random() < 0.15:
            future.cancel()
    caller.random.shuffle(pending)
    lost: BrokerError | None = None
    for future, expected, seconds in pending:
        try:
            with hurried(caller, seconds):
                same(future.result()["y"], expected)
        except CancelledError:
            caller.count("cancelled")
        except BrokerError as error:
            lost = error
    if lost is not None:
        raise lost


def mapped(caller: Caller) -> None:
    asked = [caller.inputs() for _ in range(caller.random.randrange(1, 20))]
    batches = (inputs for inputs, _ in asked)
    in_flight = caller.random.randrange(1, 10)
    if caller.random.random() < 0.5:
        answers = list(caller.client.model("tell").map(batches, max_in_flight=in_flight))
        assert len(answers) == len(asked)
        numbered: list[tuple[int, Any]] = list(enumerate(answers))
    else:
        numbered = list(caller.client.model("tell").map_unordered(batches, max_in_flight=in_flight))
        assert sorted(index for index, _ in numbered) == list(range(len(asked)))
    for index, answer in numbered:
        same(answer["y"], asked[index][1])


def map_given_up(caller: Caller) -> None:
    """A map that is left after a few answers, with other calls still under way."""
    for number, answer in enumerate(caller.client.model("double").map(np.ones((30, 1, 4), np.float32))):
        same(answer, np.full((1, 4), 2, np.float32))
        if number == 3:
            break


# -- the process ---------------------------------------------------------------------------------------------------


def attach_again(caller: Caller) -> None:
    """Give the channel up between two calls, while the other thread is in the middle of one."""
    predict(caller)
    with caller.closings.counted():
        caller.client.close()
    predict(caller)


def descriptors_closed(caller: Caller) -> None:
    """As a program does that daemonises by hand: all are closed, and the app's own files get their numbers. Nothing of
    ours is written to those, nor are they closed; the calls go on."""
    with caller.closings.counted():
        for fd in _open_descriptors() - caller.others_descriptors:
            with contextlib.suppress(OSError):
                os.close(fd)
        files = [os.memfd_create("app") for _ in range(6)]
        predict(caller)
        predict_heavy(caller)
    for file in files:
        assert os.readlink(f"/proc/self/fd/{file}").startswith("/memfd:app"), "a file of the app's was closed"
        assert not os.fstat(file).st_size, "something was written to a file of the app's"
        os.close(file)


def _open_descriptors() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/fd")}


def forked(caller: Caller) -> None:
    """A child, forked while the other thread is in the middle of a call, makes calls of its own."""
    child = os.fork()
    if child == 0:
        status = 9
        try:
            signal.alarm(CHILD_SECONDS)  # it must end, whoever waits for it
            own = Caller(caller.client, Ends(), f"{os.getpid()}", caller.board, step=lambda: None)
            for _ in range(2):
                own.attempt(predict)
            status = 0
        except BaseException:
            traceback.print_exc()
            caller.board.fail()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, f"a forked child ended with {status}"


def interrupted(caller: Caller) -> None:
    """A signal handler raises in the middle of a call, wherever that is. Main thread only."""

    def fail(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, fail)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, caller.random.uniform(1e-6, 4e-4))
            caller.random.choice((predict, in_place, futures, predict_heavy))(caller)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupted:
        caller.count("interrupted")
    finally:
        signal.signal(signal.SIGALRM, before)


OF_ANY_THREAD: tuple[tuple[int, Form], ...] = (
    *((12, predict), (4, predict_heavy), (4, several_inputs), (1, guilty), (6, in_place), (6, in_a_hurry)),
    *((4, large_inputs), (4, large_outputs), (8, futures), (4, mapped), (2, map_given_up)),
)
OF_THE_MAIN_THREAD: tuple[tuple[int, Form], ...] = (
    *OF_ANY_THREAD,
    *((4, interrupted), (1, forked), (1, attach_again)),
)
"""How often each, among the others."""
CLOSE_DESCRIPTORS = "ONESESSION_STRESS_CLOSE_DESCRIPTORS"
"""In the environment: workers close what the client has open, too."""


def of_the_main_thread() -> tuple[tuple[int, Form], ...]:
    more: tuple[tuple[int, Form], ...] = (
        ((1, descriptors_closed),) if os.environ.get(CLOSE_DESCRIPTORS) else ()
    )
    return (*OF_THE_MAIN_THREAD, *more)
