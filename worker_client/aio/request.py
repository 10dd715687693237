"""A request for event loops, with inputs and outputs in shared memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType

from worker_client.aio.calls import LoopCalls
from worker_client.attachment.retry_policy import BrokerLost
from worker_client.attachment.slot import Slot
from worker_client.binding import Binding, input_shapes
from worker_client.calls.string_inputs import has_views, in_place, write
from worker_client.model import Model
from worker_client.request import Result, WritableInputs, check_mapped, check_same
from worker_client.system import limits
from worker_client.wire.errors import BrokerError
from worker_client.wire.tensors import TensorLayout


class AsyncRequest(WritableInputs):
    """Made by `AsyncModel.request`. Holds a slot inside its `async with` block.

    When its broker goes away, the inputs, including strings, stay where they are, as with `Request`.
    """

    def __init__(
        self,
        ready: Callable[[Model, float | None], Awaitable[tuple[Binding, LoopCalls, int]]],
        attach_again: Callable[[Model, int], Awaitable[tuple[Binding, LoopCalls]]],
        model: Model,
        rows: int | None,
        shapes: dict[str, tuple[int, ...]],
    ) -> None:
        super().__init__()
        self._ready = ready
        self._attach_again = attach_again
        self._model = model
        self._rows = rows
        self._shapes = shapes
        self._held: tuple[Binding, LoopCalls, Slot] | None = None
        self._layout: TensorLayout | None = None
        self._moved = False
        self._first: Slot | None = None  # as in `Request`

    async def __aenter__(self) -> AsyncRequest:
        self._check_process()
        binding, calls, deadline = await self._ready(self._model, None)
        self._layout = binding.validator.layout_of(input_shapes(binding.validator, self._rows, self._shapes))
        self._held = await self._claim(binding, calls, deadline)
        self._inputs = dict(zip(binding.validator.names, self._held[2].input.write_layout(self._layout)))
        if binding.validator.strings:
            self._inputs = in_place(self._inputs)
        binding.validator.fill(self._inputs)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held, self._held = self._held, None
        first, self._first = self._first, None
        self._inputs = {}
        self._moved = False
        if held is not None:
            _, calls, slot = held
            calls.release(slot)
            if first is not None:
                calls.release(first)

    async def run(self, timeout: float | None = None) -> Result:
        """Run the model on the inputs written so far; `timeout` in seconds. May be called again in the same block."""
        self._check_process()
        if self._held is None:
            raise BrokerError("a request runs only inside its `async with` block")
        if self._held[2].busy and self._held[0].channel.open:
            raise BrokerError(
                "the last run of this request was given up and still holds its slot; make a new request"
            )
        check_mapped(self._held[2])
        deadline = self._model.deadline(timeout)
        attempts = self._model.attempts
        while True:
            try:
                return await self._run_once(*self._held, deadline)
            except BrokerLost as lost:
                attempts = attempts.after(lost)
            except MemoryError as error:
                raise limits.no_memory(error) from None
            before, _, slot = self._held
            binding, calls = await self._attach_again(self._model, deadline)
            if binding.channel is before.channel:  # only the model was replaced
                check_same(before.validator.signature, binding)
                self._held = binding, calls, slot
            else:
                self._first = None
                self._held = await self._claim(binding, calls, deadline)
                self._moved = True

    async def _run_once(self, binding: Binding, calls: LoopCalls, slot: Slot, deadline: int) -> Result:
        assert self._layout is not None
        if binding.validator.strings:
            slot = await self._write_strings(binding, calls, slot, deadline)
        elif self._moved:
            for view, array in zip(slot.input.write_layout(self._layout), self._inputs.values()):
                view[...] = array
        await calls.run(slot, binding.id, deadline)
        return Result(binding.output_names, slot.result(), slot)

    async def _write_strings(self, binding: Binding, calls: LoopCalls, slot: Slot, deadline: int) -> Slot:
        """Write the inputs, in a larger slot if they need one. Returns the slot that holds all inputs."""
        tensors, layout = binding.validator.prepare(self._inputs)
        if layout.nbytes > slot.input.nbytes:
            larger = await calls.claim(layout.nbytes, deadline)
            self._held = binding, calls, larger
            if self._moved or not has_views(self._inputs):
                calls.release(slot)
            else:
                self._first, self._moved = slot, True
            slot = larger
        write(slot, tensors, layout, moved=self._moved)
        return slot

    async def _claim(
        self, binding: Binding, calls: LoopCalls, deadline: int
    ) -> tuple[Binding, LoopCalls, Slot]:
        """A slot of this broker, or of the next one if this one goes away."""
        assert self._layout is not None
        signature = (
            self._held[0].validator.signature if self._held is not None else binding.validator.signature
        )
        while True:
            check_same(signature, binding)
            try:
                return binding, calls, await calls.claim(self._layout.nbytes, deadline)
            except BrokerLost as lost:
                self._model.attempts.after(lost)
            binding, calls = await self._attach_again(self._model, deadline)
