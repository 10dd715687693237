"""A request whose inputs and outputs are in shared memory, without copies.

When its broker goes away, the inputs stay where they are, in memory that now belongs to the worker alone, so the
caller's views stay valid. From then on each run copies them into a slot of the next broker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

import numpy as np

from worker_client.attachment.retry_policy import Attempts, BrokerLost
from worker_client.attachment.slot import Slot
from worker_client.binding import Binding
from worker_client.calls.string_inputs import has_views, in_place, write
from worker_client.calls.timings import Timings
from worker_client.interpreter import fork
from worker_client.system import limits
from worker_client.system.clock import monotonic_ns
from worker_client.wire.errors import BrokerError, BrokerUnavailable
from worker_client.wire.layout import NO_DEADLINE
from worker_client.wire.signature import Signature
from worker_client.wire.tensors import TensorLayout


class WritableInputs:
    """`self[name]` is the array to write an input into. The memory belongs to the process that made the request."""

    def __init__(self) -> None:
        self._process = fork.here()
        self._inputs: dict[str, np.ndarray] = {}

    def _check_process(self) -> None:
        """Raises BrokerUnavailable in a child of the process that made the request."""
        if not self._process.word[0]:
            raise fork.not_ours("the request")

    def __getitem__(self, name: str) -> np.ndarray:
        self._check_process()
        try:
            return self._inputs[name]
        except KeyError:
            raise no_input(name, self._inputs) from None

    def __setitem__(self, name: str, value: Any) -> None:
        self[name][...] = value


class Request(WritableInputs):
    """Made by `Model.request`. Holds a slot inside its `with` block; one thread at a time.

    `request[name]` is a writable ndarray in shared memory. It holds the input's default, else whatever the last request
    left there. Views of inputs and results are valid only inside the block; after it the memory is used for other
    requests. A request belongs to the process that made it: in a child forked meanwhile it raises BrokerUnavailable,
    and the views still show the parent's memory.

    Strings cannot be views. `request["text"]` is an array of bytes or str objects, empty at first, which each run
    copies into shared memory. A result of strings is an array of bytes objects. If the strings need a larger slot, the
    request takes a second one.
    """

    # Of the class, because __del__ runs even if a signal handler raised before __init__.
    _slot: Slot | None = None
    # the slot that the inputs were written into, if strings have since needed a larger one
    _first: Slot | None = None

    def __init__(
        self,
        binding: Binding,
        bind: Callable[[int], Binding],
        layout: TensorLayout,
        timeout: float,
        attempts: Attempts,
    ) -> None:
        self._moved = False  # the inputs are in an earlier broker's slot, or in `_first`
        self._binding = binding
        self._bind = bind
        self._layout = layout
        self._timeout = timeout
        self._attempts = attempts
        super().__init__()

    def __enter__(self) -> Request:
        self._check_process()
        slot = self._slot = self._claim(self._deadline(None))
        self._inputs = dict(zip(self._binding.validator.names, slot.input.write_layout(self._layout)))
        if self._binding.validator.strings:
            self._inputs = in_place(self._inputs)
        self._binding.validator.fill(self._inputs)
        return self

    def _claim(self, deadline: int) -> Slot:
        while True:
            try:
                return self._binding.channel.claim(self._layout.nbytes, deadline)
            except BrokerLost as lost:
                self._attempts.after(lost)
                self._bind_again(deadline)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        slots, self._slot, self._first = (self._slot, self._first), None, None
        self._inputs = {}
        self._moved = False
        for slot in slots:
            if slot is not None:
                self._binding.channel.release(slot)

    def __del__(self) -> None:
        """Give back what `__enter__` has taken if a signal handler raised before the block."""
        if (self._slot is not None or self._first is not None) and self._binding.channel.ours:
            self.__exit__(None, None, None)

    def run(self, timeout: float | None = None) -> Result:
        """Run the model on the inputs written so far; `timeout` in seconds. May be called again in the same block."""
        self._check_process()
        if self._slot is None:
            raise BrokerError("a request runs only inside its `with` block")
        if self._slot.busy and self._binding.channel.open:
            raise BrokerError(
                "the last run of this request timed out and still holds its slot; make a new request"
            )
        check_mapped(self._slot)
        deadline = self._deadline(timeout)
        attempts = self._attempts
        while True:
            try:
                return self._run_once(self._slot, deadline)
            except BrokerLost as lost:
                attempts = attempts.after(lost)
                self._move(deadline)
            except MemoryError as error:
                raise limits.no_memory(error) from None

    def _run_once(self, slot: Slot, deadline: int) -> Result:
        binding = self._binding
        if binding.validator.strings:
            slot = self._write_strings(slot, deadline)
        elif self._moved:
            for view, array in zip(slot.input.write_layout(self._layout), self._inputs.values()):
                view[...] = array
        binding.channel.submit(slot, binding.id, deadline)
        binding.channel.wait(slot, deadline)
        return Result(binding.output_names, slot.result(), slot)

    def _write_strings(self, slot: Slot, deadline: int) -> Slot:
        """Write the inputs, in a larger slot if they need one. Returns the slot that holds all inputs."""
        tensors, layout = self._binding.validator.prepare(self._inputs)
        if layout.nbytes > slot.input.nbytes:
            larger = self._binding.channel.claim(layout.nbytes, deadline)
            self._slot = larger
            if self._moved or not has_views(self._inputs):
                self._binding.channel.release(slot)
            else:
                self._first, self._moved = slot, True
            slot = larger
        write(slot, tensors, layout, moved=self._moved)
        return slot

    def _move(self, deadline: int) -> None:
        """Take a slot of the next broker, or keep this one if only the model was replaced."""
        channel = self._binding.channel
        self._bind_again(deadline)
        if self._binding.channel is channel:
            return
        self._first = None
        self._slot = self._claim(deadline)
        self._moved = True

    def _bind_again(self, deadline: int) -> None:
        binding = self._bind(deadline)
        check_same(self._binding.validator.signature, binding)
        self._binding = binding

    def _deadline(self, timeout: float | None) -> int:
        seconds = self._timeout if timeout is None else timeout
        return NO_DEADLINE if seconds >= 1e9 else monotonic_ns() + int(seconds * 1e9)


def no_input(name: str, inputs: Mapping[str, Any]) -> KeyError:
    """The error for an input that the request does not have. After its block a request has no inputs."""
    there = f"there are {', '.join(inputs)}" if inputs else "a request has inputs only inside its block"
    return KeyError(f"no input {name!r}; {there}")


def check_mapped(slot: Slot) -> None:
    """Raises BrokerError for a slot that this request can no longer use."""
    if slot.unmapped:
        raise BrokerError("an answer of this request could not be mapped; make a new request")


def check_same(signature: Signature, binding: Binding) -> None:
    """Raises BrokerUnavailable if the model of the next broker, or its next version, does not fit the request."""
    if binding.validator.signature != signature:
        raise BrokerUnavailable(
            f"the broker at {binding.connection.path} went away or has another version of the model by now, and its "
            f"{binding.validator.label} has other inputs or outputs than this request was made for; make a new request"
        )


class Result(Mapping[str, np.ndarray]):
    """The outputs of one run by name: read-only views of shared memory, valid inside the request's block. Strings are
    returned as arrays of bytes objects, because there are no views of strings. In a child forked meanwhile it raises
    BrokerUnavailable."""

    __slots__ = ("_arrays", "_names", "_process", "_sequence", "_slot")

    def __init__(self, names: tuple[str, ...], arrays: tuple[np.ndarray, ...], slot: Slot) -> None:
        self._names = names
        self._arrays = arrays
        self._slot = slot
        self._sequence = slot.sequence
        self._process = fork.here()

    @property
    def timings(self) -> Timings:
        """The stages of this run and their times. Valid inside the request's block until it runs again; then
        BrokerError."""
        self._check_process()
        if self._slot.sequence != self._sequence:
            raise BrokerError("the timings of a run are valid until its request runs again or its block ends")
        return Timings.of(self._slot)

    def _check_process(self) -> None:
        if not self._process.word[0]:
            raise fork.not_ours("the result")

    def __getitem__(self, name: str) -> np.ndarray:
        self._check_process()
        try:
            return self._arrays[self._names.index(name)]
        except ValueError:
            raise KeyError(f"no output {name!r}; there are {', '.join(self._names)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
