"""Records each run while a trace is on, in a bounded buffer that the tracing command empties repeatedly.

Switched off, it costs one check of `on` per run. It switches itself off when it has not been emptied for a while, so a
tracing command that was killed leaves nothing behind.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from broker.counters.thread_counters import Stamps
from worker_client.system.clock import monotonic_ns

if TYPE_CHECKING:
    from broker.data_plane.served_signature import ServedSignature
    from broker.data_plane.split import Runnable

_MAX_RUNS = 100_000
_FORGOTTEN_NS = 5_000_000_000
_RUNS_A_MESSAGE = 2000
_REQUESTS_A_MESSAGE = 10_000


class TracedRequest(NamedTuple):
    """A request: the slot, its use, and its stamps, of which the last is set when the request is answered."""

    pid: int
    channel: int
    slot: int
    sequence: int
    stamps: Stamps


class TracedRun(NamedTuple):
    """A run. Times are CLOCK_MONOTONIC nanoseconds: joining of inputs begun, run started, run finished, outputs in
    place."""

    thread: str
    model: str
    version: int
    signature: str
    begun_ns: int
    started_ns: int
    finished_ns: int
    ended_ns: int
    rows: int
    padding: int
    requests: tuple[TracedRequest, ...]


class Tracer:
    """The trace of one broker. Runners write it, the control thread empties it."""

    def __init__(self) -> None:
        self.on = False
        self._runs: deque[TracedRun] = deque(maxlen=_MAX_RUNS)
        self._lost = 0
        self._emptied_ns = 0

    def start(self) -> None:
        self._emptied_ns = monotonic_ns()
        self._lost = 0
        self._runs.clear()
        self.on = True

    def stop(self) -> None:
        self.on = False

    def take(self) -> dict[str, Any]:
        """The oldest runs, as many as fit into a message; whether there are more, how many were lost, whether it is
        on."""
        self._emptied_ns = monotonic_ns()
        taken: list[TracedRun] = []
        requests = 0
        while self._runs and len(taken) < _RUNS_A_MESSAGE and requests < _REQUESTS_A_MESSAGE:
            taken.append(self._runs.popleft())
            requests += len(taken[-1].requests)
        return {"runs": taken, "more": bool(self._runs), "lost": self._lost, "on": self.on}

    # -- threads that run models ---------------------------------------------------------------------------------

    def whose(self, batch: Sequence[Runnable]) -> tuple[TracedRequest, ...]:
        """The requests of a batch. Call it before they are answered: afterwards their slots may be used again."""
        slots = [request.slot for request in batch]
        return tuple(
            [TracedRequest(s.channel.pid, s.channel.number, s.index, s.use, s.stamps) for s in slots]
        )

    def ran(
        self,
        served: ServedSignature,
        times: tuple[int, int, int, int],
        rows: int,
        padding: int,
        requests: tuple[TracedRequest, ...],
    ) -> None:
        if times[3] - self._emptied_ns > _FORGOTTEN_NS:
            self.on = False
            self._runs.clear()
            return
        if len(self._runs) == _MAX_RUNS:
            self._lost += 1
        name = threading.current_thread().name
        self._runs.append(TracedRun(name, *served.signature_key, *times, rows, padding, requests))
