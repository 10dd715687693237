"""The client and the handles for event loops.

Everything except waiting is shared with the sync client: handles, checks, slots, errors. Attaching and growing a
worker's memory go over the control socket, in the loop's default executor.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from worker_client import client as sync
from worker_client.aio.calls import LoopCalls
from worker_client.aio.request import AsyncRequest
from worker_client.attachment.metadata import ModelInfo
from worker_client.attachment.retry_policy import BrokerLost
from worker_client.binding import Binding
from worker_client.calls.keras import IN_FLIGHT, Parts
from worker_client.calls.progress import bar, of_verbose, over_async, total_of
from worker_client.calls.timings import Timings
from worker_client.interpreter import patched as monkey
from worker_client.interpreter.face import face
from worker_client.ipc.waiting import WaitMode
from worker_client.model import INTERACTIVE_PRIORITY, Model, Priority, left_s
from worker_client.system.clock import monotonic, monotonic_ns
from worker_client.wire.errors import BrokerError, BrokerUnavailable, InvalidInput
from worker_client.wire.layout import NO_DEADLINE
from worker_client.wire.signature import Signature

if TYPE_CHECKING:
    from worker_client.calls.channel import Channel
    from worker_client.ipc.event import Event


def connect(
    address: str | os.PathLike[str] | None = None, *, timeout: float | None = None, retries: int = 1
) -> AsyncClient:
    """Like `worker_client.connect`. Does not contact the broker yet, so it may be called before there is a loop."""
    return AsyncClient(sync.connect(address, timeout=timeout, retries=retries, wait="block"))


class AsyncClient:
    """A process's access to one broker, for any number of event loops, at the same time or one after the other. If it
    is made before a fork, it works in every child.

    The loops share a channel, so a loop that runs a single request does not have to attach. A copy is the same client.
    A pickle holds the address and the options; unpickling it several times in one process returns the same client.
    """

    def __init__(self, client: sync.Client) -> None:
        self._client = client
        self._calls: dict[asyncio.AbstractEventLoop, LoopCalls] = {}
        self._attaching: dict[asyncio.AbstractEventLoop, asyncio.Future[None]] = {}
        self._closings = 0
        self._ended = False  # whether its `async with` block has ended

    def __repr__(self) -> str:
        return f"<AsyncClient {[*self._calls.values()] or self._client!r}>"

    def __dir__(self) -> list[str]:
        return face(super().__dir__(), ("attach_again", "calls_of", "ready"))

    def __copy__(self) -> AsyncClient:
        return self

    def __deepcopy__(self, memo: object) -> AsyncClient:
        return self

    def __reduce__(self) -> tuple[Callable[..., AsyncClient], tuple[Any, ...]]:
        return _client_of_this_process, (self._client.address, self._client.timeout, self._client.retries)

    def model(
        self,
        name: str,
        version: int | str | None = None,
        signature: str | None = None,
        *,
        label: str | None = None,
        timeout: float | None = None,
        priority: Priority = INTERACTIVE_PRIORITY,
        retries: int | None = None,
        strict: bool = False,
    ) -> AsyncModel:
        """A handle on model `name`; arguments as for `Client.model`."""
        options: dict[str, Any] = {
            "timeout": timeout,
            "priority": priority,
            "retries": retries,
            "strict": strict,
        }
        model = self._client.model(name, version, signature, label=label, **options)
        return AsyncModel(self, model)

    async def models(self) -> dict[str, ModelInfo]:
        """The models that the broker serves, by name. Raises BrokerUnavailable."""
        return await _loop_with_threads().run_in_executor(None, self._client.models)

    async def close(self) -> None:
        """Close the channel. Calls under way in any loop fail with BrokerUnavailable. A later call attaches again."""
        loop = running_loop()
        everyone, self._calls = self._calls, {}
        self._closings += 1
        for calls in everyone.values():
            if calls.loop is loop:
                calls.stop(_closed())
            else:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    calls.loop.call_soon_threadsafe(calls.stop, _closed())
        if everyone or not _has_no_threads(loop):
            await loop.run_in_executor(None, self._client.close)

    async def __aenter__(self) -> AsyncClient:
        self._ended = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        await self.close()

    def calls_of(self, binding: Binding | None) -> LoopCalls | None:
        """This loop's LoopCalls on the bound channel, if they exist."""
        calls = self._calls.get(running_loop())
        return (
            calls if calls is not None and binding is not None and calls.channel is binding.channel else None
        )

    async def ready(self, model: Model, timeout: float | None) -> tuple[Binding, LoopCalls, int]:
        """The bound model, this loop's calls on its channel, and the deadline of a call, which counts from now.

        Raises RuntimeError after the client's `async with` block."""
        if self._ended:
            raise RuntimeError(
                "this client is closed, because its `async with` block has ended: make the calls inside, or connect "
                "again"
            )
        binding = model.binding()
        calls = self.calls_of(binding) or self._join_at_once(binding)
        if binding is None or calls is None:
            return await self._attach(model, lambda: model.deadline(timeout), lambda: model.bound_by(timeout))
        return binding, calls, model.deadline(timeout)

    async def attach_again(self, model: Model, deadline_ns: int) -> tuple[Binding, LoopCalls]:
        """Attach again after the broker went away, for a call that already has a deadline."""
        binding, calls, _ = await self._attach(
            model, lambda: deadline_ns, lambda: (model.binding() or model.bind(deadline_ns), deadline_ns)
        )
        return binding, calls

    async def _attach(
        self, model: Model, deadline: Callable[[], int], bind: Callable[[], tuple[Binding, int]]
    ) -> tuple[Binding, LoopCalls, int]:
        """Bind the model's handle, in a thread, and listen to its channel. One task of a loop does so at a time; the
        others wait for it until their own deadlines, and then usually find it done."""
        loop = _loop_with_threads()
        deadline_ns = deadline()
        closings = self._closings
        while (other := self._attaching.get(loop)) is not None and _keeps_time(loop):
            left = None if deadline_ns == NO_DEADLINE else max(0.0, (deadline_ns - monotonic_ns()) / 1e9)
            await asyncio.wait((other,), timeout=left)
            if not other.done() and monotonic_ns() >= deadline_ns:
                raise model.missed(deadline_ns)
        mine = self._attaching[loop] = loop.create_future()
        try:
            if self._closings != closings:
                raise _closed()
            there = model.binding()
            calls = self.calls_of(there)
            if there is not None and calls is not None:
                return there, calls, deadline()
            while True:
                binding, deadline_ns = await loop.run_in_executor(None, bind)
                calls = self.calls_of(binding)
                if calls is not None:
                    return binding, calls, deadline_ns
                try:
                    event = await loop.run_in_executor(None, binding.channel.open_event, deadline_ns)
                except BrokerLost as lost:
                    model.attempts.after(lost)  # nothing was run
                    continue
                return binding, self.calls_of(binding) or self._join(binding.channel, event), deadline_ns
        finally:
            if self._attaching.get(loop) is mine:
                del self._attaching[loop]
            if not loop.is_closed():
                mine.set_result(None)

    def _join_at_once(self, binding: Binding | None) -> LoopCalls | None:
        """Join a channel that other loops use already: `async_to_sync` makes a loop for each request."""
        event = binding.channel.event if binding is not None else None
        if binding is None or event is None or not binding.channel.open or not event.ours:
            return None  # `_attach` finds out what is wrong
        _loop_with_threads()
        return self._join(binding.channel, event)

    def _join(self, channel: Channel, event: Event) -> LoopCalls:
        for loop, calls in list(self._calls.items()):
            if loop.is_closed() or not calls.channel.ours:
                self._calls.pop(loop, None)
                self._attaching.pop(loop, None)
        calls = self._calls[running_loop()] = LoopCalls(channel, event)
        return calls


class AsyncModel:
    """One model at one signature. Calls raise the same errors as those of `Model`. Cancelling a task cancels its
    request."""

    def __init__(self, client: AsyncClient, model: Model) -> None:
        self._client = client
        self._model = model

    def __repr__(self) -> str:
        return f"<AsyncModel {self._model!r}>"

    def __dir__(self) -> list[str]:
        return face(super().__dir__(), ())

    def __reduce__(self) -> tuple[Callable[..., AsyncModel], tuple[Any, ...]]:
        return _model_of, (self._client, *self._model.options)

    @property
    def name(self) -> str:
        return self._model.name

    def copy(self, on_answer: Callable[[Timings], object] | None = None) -> AsyncModel:
        """Another handle on the same model, which calls `on_answer` with the timings of each answer to `predict`, in
        its task."""
        model = self._model.copy()
        model.on_answer = on_answer
        return AsyncModel(self._client, model)

    async def signature(self) -> Signature:
        """Names, dtypes and shapes of inputs and outputs."""
        binding, _, _ = await self._client.ready(self._model, None)
        return binding.validator.signature

    @overload
    async def predict(
        self,
        inputs: Mapping[str, Any],
        batch_size: int | None = None,
        verbose: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        *,
        timeout: float | None = None,
        **others: Any,
    ) -> dict[str, np.ndarray]: ...

    @overload
    async def predict(
        self,
        inputs: Any,
        batch_size: int | None = None,
        verbose: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        *,
        timeout: float | None = None,
        **others: Any,
    ) -> np.ndarray: ...

    async def predict(
        self,
        inputs: Any,
        batch_size: int | None = None,
        verbose: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        *,
        timeout: float | None = None,
        **others: Any,
    ) -> Any:
        """Like `Model.predict`: ndarray -> ndarray, or {name: array} -> {name: array}; returns private copies."""
        model = self._model
        binding = model.binding()
        calls = self._client.calls_of(binding)
        if binding is None or calls is None:
            binding, calls, deadline = await self._client.ready(model, timeout)
        else:
            deadline = model.deadline(timeout)
        if batch_size is not None or steps is not None or callbacks is not None or others or verbose:
            parts = Parts(binding.validator, inputs, batch_size, steps, callbacks, others)
            if verbose or not parts.whole:
                return await self._predict_parts(parts, inputs, verbose, left_s(deadline))
        attempts, sent = model.attempts, inputs
        while True:
            call = None
            try:
                call = calls.begin(binding, sent, deadline, inputs)
                call.timed = model.on_answer is not None
                answer = await call.over
                if call.timings is not None and model.on_answer is not None:
                    model.on_answer(call.timings)
                return answer
            except BrokerLost as lost:
                attempts = attempts.after(lost)
                if call is not None and call.sent is not None:
                    sent = call.sent
            except BaseException:
                if call is not None:
                    calls.give_up(call)
                raise
            binding, calls = await self._client.attach_again(model, deadline)

    async def _predict_parts(self, parts: Parts, inputs: Any, verbose: Any, seconds: float) -> Any:
        shown = of_verbose(verbose, self.name, len(parts))
        answers = self.map((inputs,) if parts.whole else parts, max_in_flight=IN_FLIGHT, timeout=seconds)
        found = [answer async for answer in over_async(answers, lambda: shown)]
        return found[0] if parts.whole else parts.join(found)

    def submit(self, inputs: Any, timeout: float | None = None) -> asyncio.Task[Any]:
        """A task that runs `predict`, started at once: for `asyncio.gather`, `wait` and `as_completed`."""
        return running_loop().create_task(self.predict(inputs, timeout=timeout))

    def request(self, rows: int | None = 1, shapes: dict[str, tuple[int, ...]] | None = None) -> AsyncRequest:
        """Like `Model.request`, for an `async with` block: inputs are written and results are read in shared memory."""
        client = self._client
        return AsyncRequest(client.ready, client.attach_again, self._model, rows, shapes or {})

    def map(
        self,
        batches: Iterable[Any] | AsyncIterable[Any],
        *,
        max_in_flight: int = 8,
        timeout: float | None = None,
        progress: bool = False,
    ) -> AsyncIterator[Any]:
        """The answers to `batches`, in order. At most `max_in_flight` are under way or read ahead. The first error ends
        the iteration and cancels the remaining calls. `progress` is as for `Model.map`."""
        answers = self._map(batches, max_in_flight, timeout)
        return over_async(answers, lambda: bar(self.name, total_of(batches))) if progress else answers

    async def _map(
        self, batches: Iterable[Any] | AsyncIterable[Any], max_in_flight: int, timeout: float | None
    ) -> AsyncIterator[Any]:
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


_copies: dict[tuple[str, float | None, int], AsyncClient] = {}


def _client_of_this_process(path: str, timeout: float | None, retries: int) -> AsyncClient:
    key = path, timeout, retries
    client = _copies.get(key)
    if client is None:
        connection = sync.connection_as_pickled(path, WaitMode.BLOCK)
        client = _copies.setdefault(key, AsyncClient(sync.Client(connection, timeout, retries)))
    return client


def _model_of(
    client: AsyncClient,
    name: str,
    version: int | str | None,
    signature: str | None,
    timeout: float | None,
    priority: str,
    retries: int,
    strict: bool,
) -> AsyncModel:
    number, label = (None, version) if isinstance(version, str) else (version, None)
    options: dict[str, Any] = {"timeout": timeout, "priority": priority, "retries": retries, "strict": strict}
    return client.model(name, number, signature, label=label, **options)


def running_loop() -> asyncio.AbstractEventLoop:
    """The running loop. Raises BrokerError if no asyncio loop is running."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise BrokerError(
            "worker_client.aio needs a running event loop of asyncio or uvloop, and there is none here: under trio "
            "await what `worker_client.connect().model(...).submit(...)` returns, as docs/guides/event-loops.md shows; "
            "without a loop call `worker_client.connect().model(...).predict(...)`"
        ) from None


def _loop_with_threads() -> asyncio.AbstractEventLoop:
    """The running loop. Raises BrokerError for a loop whose executor would never run."""
    loop = running_loop()
    if _has_no_threads(loop):
        raise BrokerError(
            "uvloop does not work with the monkey patching of gevent or eventlet: threads are greenlets then, "
            "and never run while it waits; use asyncio's own loop (asyncio.run), or the sync client, which waits as "
            "greenlets do"
        )
    return loop


def _keeps_time(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop's clock runs with the monotonic clock. Test suites may freeze or replace it; then each task
    waits in a thread."""
    return abs(loop.time() - monotonic()) < 1.0


def _has_no_threads(loop: asyncio.AbstractEventLoop) -> bool:
    return type(loop).__module__.startswith("uvloop") and (
        monkey.gevent_has_patched() or monkey.eventlet_has_patched()
    )


def _closed() -> BrokerUnavailable:
    return BrokerUnavailable("the client was closed while the call was under way")


async def _each(batches: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(batches, AsyncIterable):
        async for inputs in batches:
            yield inputs
    else:
        for inputs in batches:
            yield inputs
