"""A request that is written and read in place: no copy between the caller and shared memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import monotonic_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from worker_client.slot import Slot
from worker_client.wire.errors import BrokerError
from worker_client.wire.layout import NO_DEADLINE
from worker_client.wire.tensors import TensorLayout

if TYPE_CHECKING:
    from worker_client.model import Bound


class Request:
    """Made by `Model.request`. Holds a slot inside its `with` block; one thread at a time.

    `request[name]` is a writable ndarray in shared memory, with whatever the last request left in it. Views of inputs
    and results are valid inside the block only: afterwards the memory serves other requests.
    """

    def __init__(self, bound: Bound, layout: TensorLayout, timeout: float) -> None:
        self._bound = bound
        self._channel = bound.channel
        self._layout = layout
        self._timeout = timeout
        self._slot: Slot | None = None
        self._inputs: dict[str, np.ndarray] = {}

    def __enter__(self) -> Request:
        slot = self._slot = self._channel.claim(self._layout.nbytes, self._deadline(None))
        self._inputs = dict(zip(self._bound.fitter.names, slot.lay(self._layout)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        slot, self._slot = self._slot, None
        self._inputs = {}
        if slot is not None:
            self._channel.release(slot)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._inputs[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._inputs[name][...] = value

    def run(self, timeout: float | None = None) -> Result:
        """Run the model on what is written; `timeout` in seconds. May be called again in the same block."""
        slot = self._slot
        if slot is None:
            raise BrokerError("a request runs only inside its `with` block")
        if slot.busy:
            raise BrokerError(
                "the last run of this request timed out and still holds its slot; make a new request"
            )
        deadline = self._deadline(timeout)
        self._channel.submit(slot, self._bound.id, deadline)
        self._channel.wait(slot, deadline)
        return Result(self._bound.output_names, slot.result())

    def _deadline(self, timeout: float | None) -> int:
        seconds = self._timeout if timeout is None else timeout
        return NO_DEADLINE if seconds >= 1e9 else monotonic_ns() + int(seconds * 1e9)


class Result(Mapping[str, np.ndarray]):
    """The outputs of one run by name: read-only views of shared memory, valid inside the request's block."""

    __slots__ = ("_arrays", "_names")

    def __init__(self, names: tuple[str, ...], arrays: tuple[np.ndarray, ...]) -> None:
        self._names = names
        self._arrays = arrays

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return self._arrays[self._names.index(name)]
        except ValueError:
            raise KeyError(f"no output {name!r}; there are {', '.join(self._names)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
