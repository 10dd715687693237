"""One thread of a worker: its client, its handles, its requests, and the comparison of every answer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

import worker_client
from tests.differential.draw import Draw
from tests.differential.kinds import KINDS
from tests.differential.kinds.kind import CALLERS, Kind, Tensors, tag_of
from tests.differential.ledger import Page
from tests.differential.stall import Stall
from tests.stress.board import Board, Ends
from tests.stress.verdicts import Fault, verdict
from worker_client import BrokerError, BrokerUnavailable, Client, ModelFailed, aio

LATE_S = 1.0
"""What a call may take beyond its timeout, besides what the machine took of this process's time."""
_HISTORY = 40


class Wrong(Fault):
    """An answer is not the model's answer to this request."""


class Late(Fault):
    """A call has returned long after its deadline."""


class Question:
    """A request of one kind, and what its answer must be."""

    __slots__ = ("caller", "inputs", "kind")

    def __init__(self, caller: Caller, kind: Kind, inputs: Tensors) -> None:
        self.caller = caller
        self.kind = kind
        self.inputs = inputs

    def settle(self, get: Callable[[], Any]) -> None:
        """Compare the answer that `get` returns; raises Wrong, and what `get` raises but for a deliberate failure."""
        kind = self.kind
        if kind.bad(self.inputs):
            with contextlib.suppress(ModelFailed):
                raise Wrong(f"{kind.name} has answered {get()}, and should have failed on {self.inputs}")
        else:
            self.compare(get())
        self.caller.page.answered(kind.name)

    def compare(self, answer: Tensors) -> None:
        if self.kind.stateful:
            self.caller.note_count(answer)
        wrong = self.kind.check(self.inputs, answer)
        if wrong:
            shapes = {name: list(value.shape) for name, value in self.inputs.items()}
            raise Wrong(f"{self.kind.name} {shapes}: {wrong}")


class Caller:
    """The calls of one thread. `number` counts its requests and identifies each of them."""

    def __init__(
        self, client: Client, who: int, page: Page, board: Board, closings: Ends, stall: Stall
    ) -> None:
        self.client = client
        self.who = who
        self.page = page
        self.board = board
        self.closings = closings
        self.stall = stall
        self.address = ""
        self.timeout: float | None = None
        self.ends: Counter[str] = Counter()
        self.history: deque[Any] = deque(maxlen=_HISTORY)  # operations
        self.in_order = True  # answers come in the order of the calls
        self._number = 0
        self._models: dict[str, worker_client.Model] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._async: aio.AsyncClient | None = None
        self._last: dict[int, int] = {}

    # -- requests ----------------------------------------------------------------------------------------------------

    def model(self, kind: Kind) -> worker_client.Model:
        """This caller's handle, the same one each time."""
        found = self._models.get(kind.name)
        if found is None:
            found = self._models[kind.name] = self.client.model(kind.model, signature=kind.signature)
        return found

    def ask(self, kind: Kind, draw: Draw) -> Question:
        """A new request, of shapes that `draw` decides."""
        self._number += 1
        if kind.stateful:
            self.page.ask()
        return Question(self, kind, kind.make(draw, tag_of(self.who, self._number)))

    def note_count(self, answer: Tensors) -> None:
        broker, count = int(answer["broker"]), int(answer["count"])
        if self.in_order and count <= self._last.get(broker, 0):
            raise Wrong(f"the counter of broker {broker} went from {self._last[broker]} to {count}")
        self._last[broker] = max(count, self._last.get(broker, 0))
        self.page.note(broker, count)

    @contextlib.contextmanager
    def out_of_order(self) -> Iterator[None]:
        """Several calls are under way at a time."""
        self.in_order = False
        try:
            yield
        finally:
            self.in_order = True

    def in_child(self) -> Caller:
        """For a process that was just forked: the same handles, requests with marks of its own."""
        child = Caller(self.client, CALLERS - 1 - self.who % 8, self.page, self.board, Ends(), self.stall)
        child._models = self._models
        return child

    # -- operations --------------------------------------------------------------------------------------------------

    def attempt(self, way: Callable[[Caller, Kind, Draw], None], kind: str, seed: int) -> None:
        """Do one operation. Raises Fault for an outcome that must not happen, and any other error of the operation."""
        brokers, closings = self.board.broker_ends, self.closings
        brokers_over, closings_over = brokers.over, closings.over
        called = KINDS[kind]
        if called.stateful and self.page.full:
            return
        try:
            way(self, called, Draw(seed))
        except BrokerError as error:
            ended = brokers.since(brokers_over)
            if called.stateful and ended and isinstance(error, BrokerUnavailable):
                self.count("not run twice")
            else:
                self.count(verdict(error, ended, closings.since(closings_over)))

    def count(self, end: str) -> None:
        self.ends[end] += 1

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """A call with this timeout. Raises Late if it comes back long after."""
        start, stalled = time.monotonic(), self.stall.seconds
        try:
            yield
        finally:
            late = time.monotonic() - start - seconds - LATE_S
            if late > 0 and late > self.stall.settled() - stalled:
                raise Late(f"a call with a timeout of {seconds:g} s came back {late + LATE_S:.2f} s after it")

    # -- event loop --------------------------------------------------------------------------------------------------

    @property
    def async_client(self) -> aio.AsyncClient:
        if self._async is None:
            self._async = aio.connect(self.address, timeout=self.timeout)
        return self._async

    def run(self, coroutine: Any) -> Any:
        """In this caller's loop, which it keeps."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(coroutine)

    def close(self) -> None:
        if self._loop is not None:
            if self._async is not None:
                self._loop.run_until_complete(self._async.close())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()
