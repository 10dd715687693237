"""The content of `onesession status` as plain values: workers, models, queues. Called on the control thread only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from time import time

from broker.control_plane.server import Peer
from broker.data_plane.channel import Channel
from broker.data_plane.intake import Intake
from broker.data_plane.served_signature import describe
from broker.observe.long_runs import long_runs
from broker.sharing.memory import Memory
from worker_client.system.clock import monotonic_ns
from worker_client.wire.control import Message


class Status:
    """The status of one server, from its parts. `idle` describes its end without workers: see `Presence.message`."""

    def __init__(
        self,
        path: Path,
        intake: Intake,
        memory: Memory,
        sessions: Iterable[Peer],
        metrics: list[str],
        idle: Callable[[], Message],
        started: float,
    ) -> None:
        self._path = path
        self._intake = intake
        self._memory = memory
        self._sessions = sessions
        self._metrics = metrics
        self._idle = idle
        self._started = started

    def message(self) -> Message:
        intake, memory = self._intake, self._memory
        channels = [session.channel for session in self._sessions if session.channel is not None]
        return {
            "pid": os.getpid(),
            "address": os.fspath(self._path),
            "uptime_seconds": time() - self._started,
            "shared_memory_bytes": memory.used_bytes,
            "max_total_bytes": memory.max_total_bytes,
            "workers": [_worker(channel) for channel in channels],
            "models": describe(intake.served_signatures, intake.failures),
            "queues": intake.queues(),
            "waiting": intake.polling.message(),
            "faults": intake.failures.faults(),
            "long_runs": [run.to_message() for run in long_runs(intake, monotonic_ns())],
            "metrics": self._metrics,
            **self._idle(),
        }


def _worker(channel: Channel) -> Message:
    return {
        "pid": channel.pid,
        "slots": len(channel.slots),
        "in_flight": sum(slot.busy for slot in channel.slots),
        "requests": channel.requests,
        "shared_memory_bytes": channel.used_bytes,
    }
