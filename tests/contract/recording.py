"""Memory and semaphores that record, in one list, every store and post of both sides."""

from __future__ import annotations

import itertools
from collections import deque
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from broker.counters.failures import Failures
from broker.data_plane.served_signature import served_signatures_of
from broker.data_plane.slot import Slot as BrokerSlot
from broker.models.lifecycle.repository import load
from broker.models.python.function import signature as signed
from broker.models.spec import ModelSpec
from worker_client.attachment.slot import Slot as WorkerSlot
from worker_client.ipc.ring import RingConsumer, RingProducer
from worker_client.ipc.semaphore import Busy
from worker_client.wire.errors import ModelFailed
from worker_client.wire.layout import NOTIFY_SLOT, OUTPUT_HEAD, RING_END, SLOT_HEADER
from worker_client.wire.tensors import TensorLayout, lay_out

signature = partial(signed, independent_rows=True)  # tests are about joined requests, too

REGION_BYTES = 4096


@signature(inputs={"x": ("float32", [None, 3])}, outputs={"y": ("float32", [None, 3])})
def echo(x: np.ndarray) -> np.ndarray:
    return x


SERVINGS = served_signatures_of(load([ModelSpec("echo", f"{__name__}:echo")], warm=False).entries)

Event = tuple[str, Any]


class Log(list[Event]):
    """(what, which) of all that happened, in order."""

    def where(self, what: str, *which: Any) -> list[int]:
        """Places in the list of the events `what`, of these only if any are given."""
        return [at for at, event in enumerate(self) if event[0] == what and (not which or event[1] in which)]

    def in_order(self, *steps: list[int]) -> bool:
        """Each step happened, and all of it before any of the next."""
        return all(steps) and all(max(one) < min(after) for one, after in itertools.pairwise(steps))


class Words:
    """Shared words through which one side reads and stores. `cast` makes it pass for the bytes of a header, too."""

    def __init__(self, log: Log, side: str, words: memoryview) -> None:
        self._log = log
        self._side = side
        self._words = words

    def cast(self, code: str) -> Words:
        assert code == "Q"
        return self

    def __getitem__(self, index: int) -> int:
        self._log.append((f"{self._side} reads", index))
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._words[index] = value
        self._log.append((f"{self._side} stores", index))


class Region(bytearray):
    """A region of tensors; a table or a message that is written into it is logged."""

    log: Log
    name: str

    @classmethod
    def make(cls, log: Log, name: str) -> Region:
        region = cls(REGION_BYTES)
        region.log, region.name = log, name
        return region

    def __getitem__(self, key: Any) -> Any:
        if key == slice(OUTPUT_HEAD):
            return Words(self.log, "answer", memoryview(self)[key].cast("Q"))
        return memoryview(self)[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self.log.append(("writes", self.name))


class Posts:
    """A semaphore in one process. `raising` is raised by the next release, before or after it has posted."""

    def __init__(self, log: Log, name: str) -> None:
        self.log = log
        self.name = name
        self.count = 0
        self.raising: deque[tuple[bool, BaseException]] = deque()

    def release(self) -> None:
        posted, error = self.raising.popleft() if self.raising else (True, None)
        if posted:
            self.count += 1
            self.log.append(("posts", self.name))
        if error is not None:
            raise error

    def acquire(self, timeout: float | None = None) -> None:
        assert timeout == 0, "nobody blocks in these tests"
        if not self.count:
            self.log.append(("finds nothing", self.name))
            raise Busy
        self.count -= 1
        self.log.append(("acquires", self.name))


class Desk:
    """A ring and one slot, with a worker's and a broker's hands on them, in one thread."""

    def __init__(self) -> None:
        self.log = log = Log()
        self.ring_words = memoryview(bytearray(RING_END)).cast("Q")
        self.submitted, self.doorbell = Posts(log, "submitted"), Posts(log, "doorbell")
        self.completed, self.bell = Posts(log, "completed"), Posts(log, "bell")
        worker: Any = Words(log, "worker", self.ring_words)
        broker: Any = Words(log, "broker", self.ring_words)
        self.producer = RingProducer(worker, self.submitted, self.doorbell)  # type: ignore[arg-type]
        self.consumer = RingConsumer(broker, self.submitted)  # type: ignore[arg-type]
        self.words = memoryview(bytearray(SLOT_HEADER)).cast("Q")
        self.input, self.output = Region.make(log, "input"), Region.make(log, "output")
        ends: Any = (self.input, self.output, self.completed)
        header: Any = Words(log, "worker's slot", self.words)
        self.worker = WorkerSlot(0, header, *ends)
        header = Words(log, "broker's slot", self.words)
        channel: Any = SimpleNamespace(
            number=1, closed=False, sessions=True, bell=self.bell, pid=1, failures=Failures()
        )
        self.broker = BrokerSlot(channel, 0, header, *ends)
        log.clear()

    def fail(self, text: str = "no") -> None:
        """What the broker does with it last, if the model fails."""
        self.broker.fail(self.broker.use, ModelFailed(text))

    def submit(self, rows: int = 2, notify: int = NOTIFY_SLOT, value: float = 1) -> None:
        """What a worker does for a call."""
        for view in self.worker.input.write_layout(layout_of(rows)):
            view[...] = value
        self.worker.prepare(1, 2**62, notify, 1, 0)
        self.producer.push(self.worker)

    def take(self) -> None:
        """What the broker does with it first."""
        assert self.consumer.take() == 0
        assert self.broker.accept(SERVINGS, 2)

    def complete(self, value: float = 7) -> None:
        """What the broker does with it last."""
        (feed,) = self.broker.prepared.feeds
        self.broker.complete(self.broker.use, [np.full(feed.shape, value, np.float32)], 3, 4, len(feed))


_layouts: dict[int, TensorLayout] = {}


def layout_of(rows: int) -> TensorLayout:
    """float32[rows, 3], the same object each time, as the worker remembers its layouts."""
    if rows not in _layouts:
        _layouts[rows] = lay_out([(np.dtype("float32"), (rows, 3))])
    return _layouts[rows]


class Item:
    """The minimum that a ring accepts as a slot."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.busy = False


def words_of(first: int, count: int) -> range:
    """The words of a line or of the ring's entries."""
    return range(first, first + count)
