"""The load: several client processes send every test image, the same number of times each."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.demo.program import DemoError, Program, messages

SILENCE_SECONDS = 60.0


@dataclass(frozen=True)
class LoadPlan:
    """How much is sent, by how many clients, and when they give up."""

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
    address: tuple[str, int], plan: LoadPlan, directory: Path, on_progress: Callable[[int], None]
) -> LoadResult:
    """Send `plan.requests` requests to `address`. Raises DemoError if a client fails."""
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(_client(number, address, plan, directory)) for number in range(plan.clients)
        ]
        _drive(clients, on_progress)
    return _collect(plan, [_answers(directory, number) for number in range(plan.clients)])


def _client(number: int, address: tuple[str, int], plan: LoadPlan, directory: Path) -> Program:
    host, port = address
    options = {
        "host": host,
        "port": port,
        "images": directory / "test.npz",
        "answers": _answers(directory, number),
        "requests": plan.requests,
        "first": number,
        "step": plan.clients,
        "seconds": plan.seconds,
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmarks.demo.programs.client", *arguments]
    return Program(f"client {number + 1}", command, directory, talks=True)


def _answers(directory: Path, number: int) -> Path:
    return directory / f"answers-{number}.npz"


def _drive(clients: list[Program], on_progress: Callable[[int], None]) -> None:
    """Let all begin together once all are ready, and follow them to their end."""
    ready: set[Program] = set()
    sent = dict.fromkeys(clients, 0)
    for client, message in messages(clients, SILENCE_SECONDS):
        if "ready" in message:
            ready.add(client)
            if len(ready) == len(clients):
                for each in clients:
                    each.say("go")
        else:
            sent[client] = message["sent"]
            on_progress(sum(sent.values()))


def _collect(plan: LoadPlan, paths: list[Path]) -> LoadResult:
    parts = [dict(np.load(path)) for path in paths]
    starts, ends = zip(*(part["span_ns"] for part in parts))
    errors = [str(error) for part in parts for error in part["errors"]]
    if not any(len(part["images"]) for part in parts):
        raise DemoError(f"no request was answered; the first error: {errors[0] if errors else 'none'}")
    return LoadResult(
        requests=plan.requests,
        images=np.concatenate([part["images"] for part in parts]),
        digits=np.concatenate([part["digits"] for part in parts]),
        probabilities=np.concatenate([part["probabilities"] for part in parts]),
        latencies_ns=np.concatenate([part["latencies_ns"] for part in parts]),
        errors=errors,
        seconds=float(max(ends) - min(starts)) / 1e9,
    )
