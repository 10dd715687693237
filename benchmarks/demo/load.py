"""The load: several client processes send every test image, the same number of times each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any, cast

import numpy as np

from benchmarks.demo import client
from benchmarks.demo.program import DemoError
from broker.bench.load.forks import ForkedProcess, forked_processes
from worker_client.wire.errors import BrokerError

SILENCE_SECONDS = 60.0


@dataclass(frozen=True)
class LoadPlan:
    """The number of requests, the number of clients, and when they give up."""

    requests: int
    clients: int
    seconds: float


@dataclass(frozen=True)
class LoadResult:
    """What came back. The arrays have one entry for each answer; `errors` one for each request without."""

    requests: int
    images: np.ndarray
    digits: np.ndarray
    probabilities: np.ndarray
    latencies_ns: np.ndarray
    errors: list[str]
    seconds: float

    @property
    def rate(self) -> float:
        """Answers a second, from the first client's start to the last one's end."""
        return len(self.images) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(self.latencies_ns, percent)) / 1e6 if len(self.latencies_ns) else 0.0


def run(
    address: client.Address, plan: LoadPlan, images: np.ndarray, on_progress: Callable[[int], None]
) -> LoadResult:
    """Send `plan.requests` requests to `address`. Raises DemoError if a client fails."""
    bodies = [json.dumps({"pixels": image.astype(int).tolist()}).encode() for image in images]
    clients = [
        partial(
            client.run,
            address=address,
            bodies=bodies,
            requests=range(number, plan.requests, plan.clients),
            seconds=plan.seconds,
        )
        for number in range(plan.clients)
    ]
    try:
        with forked_processes(clients) as processes:
            for process in processes:
                process.receive(SILENCE_SECONDS)
            for process in processes:
                process.connection.send("go")
            return _collect(plan, list(_answers(processes, on_progress)))
    except (BrokerError, ConnectionError) as error:
        raise DemoError(f"a client failed: {error}") from None


def _answers(
    processes: Sequence[ForkedProcess], on_progress: Callable[[int], None]
) -> Iterator[client.ClientAnswers]:
    """Follow all clients to their end."""
    sent = dict.fromkeys(processes, 0)
    running = {process.connection: process for process in processes}
    while running:
        ready = wait(list(running), SILENCE_SECONDS)
        if not ready:
            raise DemoError(f"the clients have said nothing for {SILENCE_SECONDS:g} s")
        for each in ready:
            process = running[cast(Connection, each)]
            message = process.receive(SILENCE_SECONDS)
            if isinstance(message, client.ClientAnswers):
                del running[process.connection]
                yield message
            else:
                sent[process] = message
                on_progress(sum(sent.values()))


def _collect(plan: LoadPlan, parts: Sequence[client.ClientAnswers]) -> LoadResult:
    def joined(of: Callable[[client.ClientAnswers], list[Any]]) -> np.ndarray:
        return np.array([each for part in parts for each in of(part)])

    errors = [error for part in parts for error in part.errors]
    if not any(part.images for part in parts):
        raise DemoError(f"no request was answered; the first error: {errors[0] if errors else 'none'}")
    return LoadResult(
        requests=plan.requests,
        images=joined(lambda part: part.images),
        digits=joined(lambda part: part.digits),
        probabilities=joined(lambda part: part.probabilities),
        latencies_ns=joined(lambda part: part.latencies_ns),
        errors=errors,
        seconds=(max(part.end_ns for part in parts) - min(part.start_ns for part in parts)) / 1e9,
    )
