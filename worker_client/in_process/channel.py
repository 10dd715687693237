"""In place of a channel to a broker: slots in this process's own memory, and a thread that runs what is in them.

    claim -> write -> submit --queue--> thread: read, run, write the outputs into the slot, DONE -> wait -> release

Each signature has a thread, as heavy models have in a broker, and runs one request after the other.

A call that runs out of time leaves its slot behind; it becomes free when its run ends, which nobody can break off.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from worker_client.attachment.expiry import expire
from worker_client.attachment.listeners import Listener, Listeners
from worker_client.attachment.model_cache import ModelCache
from worker_client.attachment.slot import Slot
from worker_client.calls.futures import FutureDispatcher
from worker_client.calls.late import how_late
from worker_client.in_process.answers import answer, memory, refuse
from worker_client.in_process.engine import Engine
from worker_client.interpreter import fork, threads
from worker_client.interpreter import patched as monkey
from worker_client.interpreter.condition import Condition
from worker_client.system.clock import monotonic_ns
from worker_client.wire.errors import BrokerError, BrokerUnavailable, DeadlineExceeded, Overloaded
from worker_client.wire.layout import (
    BULK,
    CANCELLED,
    DEADLINE_NS,
    DONE,
    MIN_REGION,
    NO_DEADLINE,
    NOTIFY_BELL,
    NOTIFY_EVENT,
    NOTIFY_SLOT,
    OUTPUT_REGION,
    SLOT_HEADER,
    TAKEN_NS,
    size_class,
)

MAX_SLOTS = 64  # a broker's max_slots, unless it is set
_JOIN_SECONDS = 1.0

Requests: TypeAlias = "queue.SimpleQueue[Slot | None]"


class InProcessChannel:
    """What models, requests, futures and event loops use of `calls/channel.py`. Any thread may call."""

    may_grow = is_growing = False  # `claim_at_once` makes what it can

    def __init__(self, path: str, engine: Engine, turn: Callable[[int], threading.Lock]) -> None:
        """`turn` is the lock that is held over each run of a signature."""
        self.alive = fork.new_word()
        self.process = fork.here()
        self.model_cache = ModelCache(engine.describe())
        self.run_once: dict[int, str] = {}
        self.run_limits: dict[int, tuple[str, float]] = {}
        self.slots: list[Slot] = []
        self.listeners = Listeners()
        self.event = self.bell = _Bell(self)
        self.futures: Any = FutureDispatcher(self)  # type: ignore[arg-type]
        self._path = path
        self._engine = engine
        self._turn = turn
        self._free: deque[Slot] = deque()
        self._abandoned: set[Slot] = set()
        self._changed = Condition()
        self._rung = False
        self._wake_ns = NO_DEADLINE
        self._requests: dict[int, Requests] = {}
        self._runners: list[threading.Thread] = []
        self._keeper: threading.Thread | None = None
        self._keeps = False

    def __repr__(self) -> str:
        state = "open" if self.open else "closed"
        return f"<InProcessChannel {state}, {len(self._free)} of {len(self.slots)} slots free>"

    @property
    def open(self) -> bool:
        return self.alive[0] != 0

    @property
    def ours(self) -> bool:
        return self.process.word[0] != 0

    def ask_for_models(self) -> None:
        self.model_cache.update(self._engine.describe())

    # -- slots -----------------------------------------------------------------------------------------------------

    def claim(self, nbytes: int, deadline_ns: int) -> Slot:
        """A slot whose input region holds `nbytes`. Raises Overloaded or BrokerUnavailable."""
        with self._changed:
            while (slot := self._claim()) is None:
                self._wait(deadline_ns, self.all_in_flight)
        return _sized(slot, nbytes)

    def claim_at_once(self, nbytes: int) -> Slot | None:
        with self._changed:
            slot = self._claim()
        return None if slot is None else _sized(slot, nbytes)

    def _claim(self) -> Slot | None:
        if not self.open:
            raise self.gone()
        if self._free:
            return self._free.pop()
        if len(self.slots) >= MAX_SLOTS:
            return None
        slot = Slot(len(self.slots), memory(SLOT_HEADER), memory(0), memory(MIN_REGION), None)  # type: ignore[arg-type]
        slot.words[OUTPUT_REGION] = slot.output.number
        self.slots.append(slot)
        return slot

    @property
    def has_free(self) -> bool:
        return bool(self._free) or len(self.slots) < MAX_SLOTS

    def all_in_flight(self) -> Overloaded:
        return Overloaded(
            f"all {MAX_SLOTS} slots of this worker were in flight until the deadline; send less at a time"
        )

    def release(self, slot: Slot) -> None:
        """Give a slot back, whatever became of it."""
        with self._changed:
            slot.deadline_ns = NO_DEADLINE
            if slot.busy and not slot.done:
                slot.cancel(slot.sequence)
                self._abandoned.add(slot)
                return
            slot.busy = False
            self._free.append(slot)
            self._changed.notify_all()

    # -- one call --------------------------------------------------------------------------------------------------

    def submit(self, slot: Slot, signature_id: int, deadline_ns: int, notify: int = NOTIFY_SLOT) -> None:
        """Hand a written slot to the thread that runs its signature."""
        if threading.current_thread() in self._runners:
            raise BrokerError(
                f"a model cannot call the client that runs it ({self._path}): the call would wait for itself. Call one "
                "model after the other, or put both into one function"
            )
        slot.prepare(signature_id, deadline_ns, notify, monotonic_ns(), 0)
        if not self.open:
            raise self.gone()
        requests = self._requests_for(signature_id & ~BULK)
        slot.busy = True
        requests.put(slot)

    def wait(self, slot: Slot, deadline_ns: int) -> None:
        """Return when the result in `slot` may be read. Raises DeadlineExceeded or BrokerUnavailable."""
        with self._changed:
            while not self.take_answer(slot):
                if not self.open:
                    raise self.gone(slot)
                self._wait(deadline_ns, lambda: self.deadline_exceeded(slot))

    def take_answer(self, slot: Slot) -> bool:
        if not (slot.busy and slot.done):
            return False
        slot.busy = False
        slot.woken_ns = monotonic_ns()
        slot.deadline_ns = NO_DEADLINE
        return True

    def has_region(self, slot: Slot) -> bool:
        return True  # it is bound by whoever writes the answer

    def await_region(self, slot: Slot, deadline_ns: int) -> None: ...

    def deadline_exceeded(self, slot: Slot) -> DeadlineExceeded:
        label, _ = self.run_limits.get(slot.signature_id & ~BULK, ("", 0.0))
        return DeadlineExceeded(how_late(slot.words, label, monotonic_ns()))

    def _wait(self, deadline_ns: int, late: Any) -> None:
        """For a change. Raises the error of `late()` when there is no more time."""
        left = (deadline_ns - monotonic_ns()) / 1e9
        if left <= 0:
            raise late()
        self._changed.wait(left)

    # -- the threads that run models -------------------------------------------------------------------------------

    def _requests_for(self, number: int) -> Requests:
        mine: Requests = queue.SimpleQueue()
        requests = self._requests.setdefault(number, mine)
        if requests is mine:  # a greenlet may run while a thread starts, so no lock is held
            try:
                self._runners.append(self._start(lambda: self._run(mine), "onesession-model"))
            except BaseException:
                del self._requests[number]
                raise
        return requests

    def _run(self, requests: Requests) -> None:
        while (slot := requests.get()) is not None and self.ours:
            sequence, slot.words[TAKEN_NS] = slot.sequence, monotonic_ns()
            self._answer(slot)
            self._complete(slot, sequence)

    def _answer(self, slot: Slot) -> None:
        words, number = slot.words, slot.signature_id & ~BULK
        if words[CANCELLED] == slot.sequence or monotonic_ns() >= words[DEADLINE_NS]:
            label, _ = self.run_limits.get(number, ("", 0.0))
            late = f"{label}{label and ': '}the call's timeout had passed before it could begin"
            refuse(slot, "", DeadlineExceeded(late))
            return
        with self._turn(number):
            answer(slot, self.run_limits.get(number, ("", 0.0))[0], lambda feeds: self._outputs(slot, feeds))

    def _outputs(self, slot: Slot, feeds: Any) -> Any:
        return self._engine.run(slot.signature_id & ~BULK, feeds, slot.words[DEADLINE_NS])

    def _complete(self, slot: Slot, sequence: int) -> None:
        with self._changed:
            slot.words[DONE] = sequence
            if slot in self._abandoned:
                self._abandoned.discard(slot)
                slot.busy = False
                self._free.append(slot)
            self._changed.notify_all()
        self._post(slot)
        self.listeners.notify_waiting()

    def _post(self, slot: Slot) -> None:
        """Wake who waits for the slot in another way than `wait`."""
        if slot.notify == NOTIFY_BELL:
            self.bell.release()
        elif slot.notify == NOTIFY_EVENT:
            self.listeners.notify(monotonic_ns())

    def _start(self, target: Callable[[], None], name: str) -> threading.Thread:
        thread = threading.Thread(target=target, name=name, daemon=True)
        threads.start(thread)
        return thread

    # -- futures, event loops and their deadlines ------------------------------------------------------------------

    def await_bell(self) -> None:
        with self._changed:
            while not self._rung and self.open:
                self._changed.wait()
            self._rung = False

    def ring(self) -> None:
        with self._changed:
            self._rung = True
            self._changed.notify_all()

    def open_event(self, deadline_ns: int) -> _Bell:
        return self.event

    def join(self, listener: Listener) -> bool:
        """Notify an event loop of its answers. The loop does not listen: the thread that runs the model notifies it."""
        self.listeners.join(listener)
        return False

    def watch(self, slot: Slot, deadline_ns: int) -> bool:
        slot.expired_ns = 0
        slot.deadline_ns = deadline_ns
        return self.arm(deadline_ns)

    def arm(self, deadline_ns: int) -> bool:
        """Have whoever waits until then woken."""
        with self._changed:
            if deadline_ns < self._wake_ns:
                self._wake_ns = deadline_ns
                self._changed.notify_all()
            first, self._keeps = not self._keeps and self.open, True
        if first:
            self._keeper = self._start(self._keep_deadlines, "onesession-deadlines")
        return True

    def _keep_deadlines(self) -> None:
        while self.open:
            with self._changed:
                self._wake_ns = NO_DEADLINE
            now = monotonic_ns()
            earliest = min(expire(list(self.slots), now, self._post), self.listeners.expire(now))
            with self._changed:
                self._wake_ns = min(self._wake_ns, earliest)
                left = (self._wake_ns - monotonic_ns()) / 1e9
                if self.alive[0] and left > 0:
                    self._changed.wait(left)

    # -- the end ---------------------------------------------------------------------------------------------------

    def gone(self, slot: Slot | None = None) -> BrokerUnavailable:
        if not self.ours:
            return fork.not_ours("the call")
        return BrokerUnavailable(
            f"the client was closed while the call was under way (broker at {self._path})"
        )

    answer_lost = gone

    def close(self, join: bool = True) -> None:
        """Every waiting call wakes. A run that goes on is left to itself."""
        self.alive[0] = 0
        for requests in list(self._requests.values()):
            requests.put(None)
        self.ring()
        self.listeners.notify_all()
        for thread in (*self._runners, self._keeper):
            if join and thread is not None and monkey.may_join(thread):
                thread.join(_JOIN_SECONDS)
        if join:
            self.futures.join()


class _Bell:
    """In place of the semaphore of the futures and of the event of the loops."""

    ours = True

    def __init__(self, channel: InProcessChannel) -> None:
        self._channel = channel

    def release(self) -> None:
        self._channel.ring()


def _sized(slot: Slot, nbytes: int) -> Slot:
    if nbytes > slot.input.nbytes:
        slot.bind_input(memory(size_class(nbytes)))
    return slot
