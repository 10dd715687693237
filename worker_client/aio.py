"""The client for asyncio and uvloop: the same calls, awaited. No call blocks the loop or takes a thread.

client = worker_client.aio.connect()
y = await client.model("digits").predict(x)

Everything but the waiting is the sync client's: handles, checks, slots, errors. Attaching, and growing a worker's
memory, are asked for over the control socket, in the loop's default executor.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from types import TracebackType
from typing import Any

import numpy as np

from worker_client import client as sync
from worker_client.loop import LoopCalls
from worker_client.metadata import ModelInfo
from worker_client.model import INTERACTIVE_PRIORITY, Bound, Model, copied, input_shapes
from worker_client.request import Result
from worker_client.slot import Slot
from worker_client.wire.errors import BrokerError, InvalidInput
from worker_client.wire.signature import Signature
from worker_client.wire.waiting import WaitMode


def connect(address: str | os.PathLike[str] | None = None, *, timeout: float | None = None) -> AsyncClient:
    """As `worker_client.connect`. Asks nothing of the broker yet, so it may be called before there is a loop."""
    return AsyncClient(sync.connect(address, timeout=timeout, wait=WaitMode.BLOCK.value))


class AsyncClient:
    """One event loop's way to one broker. Made before a fork, it serves every child; each loop needs its own."""

    def __init__(self, client: sync.Client) -> None:
        self._client = client
        self._calls: LoopCalls | None = None
        self._attaching: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    def __repr__(self) -> str:
        return f"<AsyncClient {self._calls or self._client!r}>"

    def model(
        self,
        name: str,
        version: int | None = None,
        signature: str | None = None,
        *,
        timeout: float | None = None,
        priority: str = INTERACTIVE_PRIORITY,
    ) -> AsyncModel:
        """A handle on model `name`; arguments as for `Client.model`."""
        return AsyncModel(
            self, self._client.model(name, version, signature, timeout=timeout, priority=priority)
        )

    async def models(self) -> dict[str, ModelInfo]:
        """The models that the broker serves, by name. Raises BrokerUnavailable."""
        return await asyncio.get_running_loop().run_in_executor(None, self._client.models)

    async def close(self) -> None:
        """Give up the channel; calls under way fail with BrokerUnavailable. The next call would attach again."""
        calls, self._calls = self._calls, None
        if calls is not None:
            calls.stop()
        await asyncio.get_running_loop().run_in_executor(None, self._client.close)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def calls_of(self, bound: Bound | None) -> LoopCalls | None:
        """This loop's calls on the channel that is bound, if there are any yet."""
        calls = self._calls
        if bound is None or calls is None or calls.channel is not bound.channel:
            return None
        return calls if calls.loop is asyncio.get_running_loop() else None

    async def attach(self, model: Model, timeout: float | None) -> tuple[Bound, LoopCalls, int]:
        """Bind the model's handle, in a thread, and listen to its channel. The deadline counts from now."""
        loop = asyncio.get_running_loop()
        if self._attaching is None or self._attaching[0] is not loop:
            self._attaching = loop, asyncio.Lock()
        async with self._attaching[1]:
            if self._calls is not None and self._calls.loop is not loop:
                await self._leave(self._calls)
            bound, deadline = await loop.run_in_executor(None, model.bound_by, timeout)
            calls = self.calls_of(bound)
            if calls is None:
                event = await loop.run_in_executor(None, bound.channel.open_event)
                calls = self._calls = LoopCalls(bound.channel, event)
        return bound, calls, deadline

    async def _leave(self, calls: LoopCalls) -> None:
        """Another loop's channel: that loop has ended, and we get one of our own."""
        if not calls.loop.is_closed():
            raise BrokerError(
                "this client belongs to another event loop, which still runs; make one for each loop"
            )
        self._calls = None
        await asyncio.get_running_loop().run_in_executor(None, self._client.close)


class AsyncModel:
    """One model at one signature. Errors as for `Model`; cancelling a task cancels its request."""

    def __init__(self, client: AsyncClient, model: Model) -> None:
        self._client = client
        self._model = model

    def __repr__(self) -> str:
        return f"<AsyncModel {self._model!r}>"

    @property
    def name(self) -> str:
        return self._model.name

    async def signature(self) -> Signature:
        """Names, dtypes and shapes of inputs and outputs."""
        bound, _, _ = await self._ready(None)
        return bound.fitter.signature

    async def predict(self, inputs: Any, timeout: float | None = None) -> Any:
        """As `Model.predict`: ndarray -> ndarray, or {name: array} -> {name: array}; private copies."""
        bound, calls, deadline = await self._ready(timeout)
        arrays, layout = bound.fitter.fit(inputs)
        slot = calls.channel.claim_at_once(layout.nbytes) or await calls.claim(layout.nbytes, deadline)
        try:
            for view, array in zip(slot.lay(layout), arrays):
                view[...] = array
            await calls.run(slot, bound.id, deadline)
            return copied(bound, slot.result(), inputs)
        finally:
            calls.release(slot)

    def submit(self, inputs: Any, timeout: float | None = None) -> asyncio.Task[Any]:
        """A task of `predict`, begun at once: for `asyncio.gather`, `wait` and `as_completed`."""
        return asyncio.get_running_loop().create_task(self.predict(inputs, timeout))

    def request(self, rows: int | None = 1, shapes: dict[str, tuple[int, ...]] | None = None) -> AsyncRequest:
        """As `Model.request`, in an `async with` block: inputs are written and results read in shared memory."""
        return AsyncRequest(self, rows, shapes or {})

    async def map(
        self,
        batches: Iterable[Any] | AsyncIterable[Any],
        *,
        max_in_flight: int = 8,
        timeout: float | None = None,
    ) -> AsyncIterator[Any]:
        """The answers to `batches` in their order. At most `max_in_flight` are under way or taken ahead; the first
        error ends it and cancels the rest."""
        if max_in_flight < 1:
            raise InvalidInput(f"max_in_flight must be at least 1, got {max_in_flight}")
        pending: deque[asyncio.Task[Any]] = deque()
        try:
            async for inputs in _each(batches):
                if len(pending) == max_in_flight:
                    yield await pending[0]
                    pending.popleft()
                pending.append(self.submit(inputs, timeout))
            while pending:
                yield await pending[0]
                pending.popleft()
        finally:
            for task in pending:
                task.cancel()

    async def _ready(self, timeout: float | None) -> tuple[Bound, LoopCalls, int]:
        bound = self._model.bound()
        calls = self._client.calls_of(bound)
        if bound is None or calls is None:
            return await self._client.attach(self._model, timeout)
        return bound, calls, self._model.deadline(timeout)


class AsyncRequest:
    """Made by `AsyncModel.request`. Holds a slot inside its `async with` block."""

    def __init__(self, model: AsyncModel, rows: int | None, shapes: dict[str, tuple[int, ...]]) -> None:
        self._model = model
        self._rows = rows
        self._shapes = shapes
        self._held: tuple[Bound, LoopCalls, Slot] | None = None
        self._inputs: dict[str, np.ndarray] = {}

    async def __aenter__(self) -> AsyncRequest:
        bound, calls, deadline = await self._model._ready(None)  # noqa: SLF001
        layout = bound.fitter.layout_of(input_shapes(bound.fitter, self._rows, self._shapes))
        slot = await calls.claim(layout.nbytes, deadline)
        self._held = bound, calls, slot
        self._inputs = dict(zip(bound.fitter.names, slot.lay(layout)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held, self._held = self._held, None
        self._inputs = {}
        if held is not None:
            _, calls, slot = held
            calls.release(slot)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._inputs[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._inputs[name][...] = value

    async def run(self, timeout: float | None = None) -> Result:
        """Run the model on what is written; `timeout` in seconds. May be called again in the same block."""
        if self._held is None:
            raise BrokerError("a request runs only inside its `async with` block")
        bound, calls, slot = self._held
        if slot.busy:
            raise BrokerError(
                "the last run of this request was given up and still holds its slot; make a new request"
            )
        await calls.run(slot, bound.id, self._model._model.deadline(timeout))  # noqa: SLF001
        return Result(bound.output_names, slot.result())


async def _each(batches: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(batches, AsyncIterable):
        async for inputs in batches:
            yield inputs
    else:
        for inputs in batches:
            yield inputs
