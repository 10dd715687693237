"""All statistics of a broker, computed on request, as plain values.

    each thread's counters --\\
    failures ----------------+--> Statistics.message() --> `stats` on the control plane: stats and top commands
    channels, queues, memory-/                         \\-> Prometheus, at a scrape

Any thread may call it. Nothing is stopped meanwhile, so the numbers may be from slightly different times.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from time import time
from typing import TYPE_CHECKING, Any

from broker.counters.failures import SignatureKey
from broker.counters.histogram import Histogram
from broker.counters.thread_counters import STAGES, ThreadCounters
from broker.host.processes import pid_namespace
from broker.host.usage import cpu_s, resident_bytes
from broker.observe.long_runs import long_runs
from worker_client.system.clock import monotonic_ns
from worker_client.wire.layout import HEAD_WORD, RING_ENTRIES, TAIL_WORD

if TYPE_CHECKING:
    from pathlib import Path

    from broker.counters.arrivals import Arrivals
    from broker.data_plane.channel import Channel
    from broker.data_plane.intake import Intake
    from broker.data_plane.served_signature import ServedSignature
    from broker.models.lifecycle.repository import Repository
    from broker.sharing.memory import Memory

AD_HOC = "session"
"""The name under which all signatures made for sessions are counted together."""

_COUNTERS = ("rows", "padded_rows", "input_bytes", "output_bytes", "joined_bytes", "gather_ns")


class Statistics:
    """The statistics of one server, from its parts, its address, its metrics addresses and its restarts."""

    def __init__(
        self,
        intake: Intake,
        memory: Memory,
        repository: Repository,
        arrivals: Arrivals,
        path: Path,
        metrics: Sequence[str],
        restarts: int,
    ) -> None:
        self._intake = intake
        self._memory = memory
        self._repository = repository
        self._arrivals = arrivals
        self._path = path
        self._metrics = metrics
        self._restarts = restarts
        self._started = time()
        self._numbers = count(1)

    def message(self) -> dict[str, Any]:
        """All statistics. `number` counts the calls, `time` and `started` are seconds since 1970, `*_ns`
        nanoseconds."""
        intake, memory = self._intake, self._memory
        channels = list(intake.channels)
        running = intake.running()
        return {
            "number": next(self._numbers),
            "time": time(),
            "started": self._started,
            "pid": os.getpid(),
            "address": os.fspath(self._path),
            "uptime_seconds": time() - self._started,
            "metrics": self._metrics,
            "restarts": self._restarts,
            "process": _process(),
            "shared_memory": {"bytes": memory.used_bytes, "limit": memory.max_total_bytes},
            "faults": intake.failures.faults(),
            "arrivals": vars(self._arrivals).copy(),
            "workers": [_worker(channel) for channel in channels],
            "slots": _slots(channels, running),
            "queues": intake.queues(),
            "waiting": intake.polling.message(),
            "long_runs": [run.to_message() for run in long_runs(intake, monotonic_ns())],
            "signatures": _signatures(
                intake.served_signatures, intake.failures.counts(), intake.runner_number
            ),
            "versions": _versions(self._repository),
        }


def _process() -> dict[str, Any]:
    return {
        "cpu_seconds": cpu_s([os.getpid()]),
        "resident_bytes": resident_bytes(),
        "threads": threading.active_count(),
        "pid_namespace": pid_namespace(),
    }


def _worker(channel: Channel) -> dict[str, Any]:
    return {
        "pid": channel.pid,
        "channel": channel.number,
        "slots": len(channel.slots),
        "in_flight": sum(slot.busy for slot in channel.slots),
        "in_ring": _in_ring(channel),
        "requests": channel.requests,
        "shared_memory_bytes": channel.used_bytes,
    }


def _in_ring(channel: Channel) -> int:
    """Requests that are submitted and not taken. The worker writes the tail, so it may have any value."""
    words = channel.words
    return min((words[TAIL_WORD] - words[HEAD_WORD]) % (1 << 64), RING_ENTRIES)


def _slots(channels: Iterable[Channel], running: int) -> dict[str, int]:
    """The number of slots in each state, as the broker sees it: other slots are free, or in use by their worker."""
    every = [slot for channel in channels for slot in channel.slots]
    busy, held = sum(slot.busy for slot in every), sum(slot.busy and slot.held for slot in every)
    in_ring = sum(_in_ring(channel) for channel in channels)
    running = min(running, busy - held)
    return {
        "free": max(0, len(every) - busy - in_ring),
        "submitted": in_ring,
        "held": held,
        "taken": busy - held - running,
        "running": running,
    }


def _signatures(
    served_signatures: Sequence[ServedSignature | None],
    failures: Mapping[tuple[SignatureKey, str], int],
    intake: int,
) -> list[dict[str, Any]]:
    """Counters and histograms of each signature of each version; those made for sessions are combined. `intake` is the
    number of the intake's runner."""
    all_counters: dict[SignatureKey, list[ThreadCounters]] = {}
    light: dict[SignatureKey, tuple[bool, str]] = {}
    stateful: dict[SignatureKey, str] = {}
    inline: Counter[SignatureKey] = Counter()
    for served in dict.fromkeys(served_signatures):
        if served is not None:
            signature_key = _without_number(served.signature_key)
            all_counters.setdefault(signature_key, []).extend(served.list_counters())
            if light.get(signature_key, (True, ""))[0]:  # of several made for sessions, a heavy one counts
                light[signature_key] = served.light, served.why
            thread_counters = served.all_counters.get(intake)
            inline[signature_key] += (
                0 if thread_counters is None else sum(thread_counters.sizes.copy().values())
            )
            stateful[signature_key] = served.entry.stateful or stateful.get(signature_key, "")
    errors: dict[SignatureKey, Counter[str]] = {}
    for (signature_key, kind), times in failures.items():
        errors.setdefault(_without_number(signature_key), Counter())[kind] += times
    return [
        {
            **_signature(
                signature_key,
                all_counters.get(signature_key, []),
                errors.get(signature_key, Counter()),
                light.get(signature_key, (None, "")),
            ),
            "stateful": stateful.get(signature_key, ""),
            "inline_runs": inline[signature_key],
        }
        for signature_key in dict.fromkeys([*all_counters, *errors])
    ]


def _without_number(signature_key: SignatureKey) -> SignatureKey:
    ad_hoc = signature_key.signature.startswith(f"{AD_HOC}:")
    return signature_key._replace(signature=AD_HOC) if ad_hoc else signature_key


def _signature(
    signature_key: SignatureKey,
    all_counters: Iterable[ThreadCounters],
    errors: Counter[str],
    state: tuple[bool | None, str],
) -> dict[str, Any]:
    """One signature. `state` is `light` and `why`: None and "" if it is no longer served. `model` is empty if a request
    named none."""
    stages = {stage: Histogram() for stage in STAGES}
    counters = Counter(dict.fromkeys(_COUNTERS, 0))
    sizes: Counter[int] = Counter()
    paddings: Counter[int] = Counter()
    for thread_counters in all_counters:
        for stage, histogram in stages.items():
            histogram.add(getattr(thread_counters, stage), getattr(thread_counters, f"{stage}_ns"))
        counters.update({key: getattr(thread_counters, key) for key in _COUNTERS})
        sizes.update(thread_counters.sizes.copy())
        paddings.update(thread_counters.paddings.copy())
    return {
        **signature_key._asdict(),
        "light": state[0],
        "why": state[1],
        "requests": stages["total"].count + errors.total(),
        "runs": sizes.total(),
        **counters,
        "errors": dict(errors),
        "sizes": sorted(sizes.items()),
        "paddings": sorted(paddings.items()),
        "stages": {stage: histogram.to_message() for stage, histogram in stages.items()},
    }


def _versions(repository: Repository) -> list[dict[str, Any]]:
    with repository.lock:
        return [
            {
                "model": name,
                "version": version.number,
                "state": version.state.value,
                "memory_bytes": version.memory_bytes,
            }
            for name, served in repository.served.items()
            for version in served.versions
        ]
