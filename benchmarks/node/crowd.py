"""Processes that ask for the node's broker all at once: one round of T22.

parent --go--> process: shared(...), predict --right or the error--> parent: who serves, how many were started
       --end-> it ends, and so does the broker
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import re
import signal
import time
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import workloads
from broker.bench.load.forks import ForkedProcess, forked_processes, wait_or_kill
from broker.control_plane.query import ask
from worker_client import Client, node

PATIENCE_S = 120.0
MODEL = "head"
BROKEN_MODEL = "cannot_load"
_FAILED = re.compile(r"no weights at (\d+) ns")


@dataclass(frozen=True)
class WantedBroker:
    """The broker that every process asks for."""

    models: dict[str, Any]
    idle_seconds: float
    log: str

    def client(self) -> Client:
        return node.shared(self.models, idle_seconds=self.idle_seconds, log=self.log, timeout=PATIENCE_S)

    def starts(self) -> int:
        """How many brokers have begun to load: each logs it once it has the address."""
        log = Path(self.log)
        return log.read_text().count("loading ") if log.exists() else 0

    def files(self) -> list[str]:
        """The files of its broker that exist."""
        path = Path(self.client().address)
        return sorted(each.name for each in path.parent.glob(f"{path.stem}.*"))


@dataclass
class Round:
    """The result of one round."""

    callers: int = 0
    killed: int = 0
    right: int = 0
    errors: list[str] = field(default_factory=list)
    brokers: set[int] = field(default_factory=set)
    starts: int = 0
    left: list[str] = field(default_factory=list)


def is_right(client: Client, number: int) -> bool:
    """One call, whose answer no other call has."""
    x = np.random.default_rng(number).normal(size=(1 + number % 3, 128)).astype(np.float32)
    return bool(np.array_equal(client.model(MODEL).predict(x), workloads.head(x)))


def play(wanted: WantedBroker, processes: int, rng: random.Random, kill: bool) -> Round:
    """Start so many at once; kill one of them meanwhile."""
    before = wanted.starts()
    callers = [_Caller(wanted, number) for number in range(processes)]
    victim = rng.randrange(processes) if kill else None
    try:
        for caller in callers:
            caller.connection.send("go")
        if victim is not None:
            time.sleep(rng.random() ** 2)
            os.kill(callers[victim].pid, signal.SIGKILL)
        found = Round(callers=processes, killed=int(kill))
        for caller in callers:
            if victim is None or caller is not callers[victim]:
                caller.judge(found)
        found.starts = wanted.starts() - before
    finally:
        for caller in callers:
            caller.end()
    limit = time.monotonic() + wanted.idle_seconds + 2
    while (found_files := wanted.files()) and time.monotonic() < limit:
        time.sleep(0.02)
    found.left = found_files
    return found


class _Caller(ForkedProcess):
    def __init__(self, wanted: WantedBroker, number: int) -> None:
        self.number = number
        super().__init__(partial(_call, wanted, number))

    def judge(self, found: Round) -> None:
        try:
            answer = (
                self.connection.recv()
                if self.connection.poll(PATIENCE_S + 10)
                else "it neither answers nor fails"
            )
        except EOFError:
            answer = "its process has ended"
        if isinstance(answer, int):
            found.right += 1
            found.brokers.add(answer)
        else:
            found.errors.append(f"process {self.number}: {answer}")

    def end(self) -> None:
        with contextlib.suppress(OSError):  # it was killed
            self.connection.send("end")
        self.connection.close()
        wait_or_kill(self.pid, 10.0)


def _call(wanted: WantedBroker, number: int, pipe: Connection) -> None:
    pipe.recv()
    try:
        client = wanted.client()
        right = is_right(client, number)
        pipe.send(ask(client.address, "status")["status"]["pid"] if right else "a wrong answer")
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
    pipe.recv()


def refusals(wanted: WantedBroker, processes: int) -> list[tuple[str, float]]:
    """Start so many at once, for models of which one cannot be loaded: what each is told, and how many seconds after
    the load failed (infinite if it is told anything else)."""
    with forked_processes([partial(_be_refused, wanted)] * processes) as callers:
        for caller in callers:
            caller.connection.send("go")
        told = [caller.receive(PATIENCE_S + 10) for caller in callers]
    return [(text, _seconds_since_failure(text, at_ns)) for text, at_ns in told]


def _be_refused(wanted: WantedBroker, pipe: Connection) -> None:
    pipe.recv()
    try:
        wanted.client().model(BROKEN_MODEL).predict(np.ones((1, 128), np.float32))
        text = "a broker serves a model that cannot be loaded"
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
    pipe.send((text, time.monotonic_ns()))


def _seconds_since_failure(text: str, at_ns: int) -> float:
    failed = _FAILED.search(text)
    return (at_ns - int(failed[1])) / 1e9 if failed else math.inf


def race(wanted: WantedBroker, processes: int, seconds: float, seed: int) -> tuple[int, list[str]]:
    """Processes that come and go about as fast as the broker ends; how many calls were right, and every error."""
    limit = time.monotonic() + seconds
    racers = [ForkedProcess(partial(_race, wanted, number, seed, limit)) for number in range(processes)]
    calls, errors = 0, []
    pipes = {racer.connection: racer.pid for racer in racers}
    while pipes:
        ready = wait(list(pipes), timeout=PATIENCE_S)
        if not ready:
            raise TimeoutError(f"{len(pipes)} processes neither call nor end")
        for pipe in ready:
            assert isinstance(pipe, Connection)
            try:
                text = pipe.recv()
            except EOFError:
                _, status = os.waitpid(pipes.pop(pipe), 0)
                errors += [f"a process of the race ended with status {status}"] if status else []
                pipe.close()
                continue
            calls += text == ""
            errors += [text] if text else []
    return calls, errors


def _race(wanted: WantedBroker, number: int, seed: int, limit: float, pipe: Connection) -> None:
    rng = random.Random(f"{seed} {number}")
    while time.monotonic() < limit:
        pipe.send(_visit(wanted, rng))
        time.sleep(_until_next_visit(time.monotonic(), wanted.idle_seconds, rng))


def _until_next_visit(now: float, idle_seconds: float, rng: random.Random) -> float:
    """All come at about the same moments, of which the next is that at which the broker ends after the last."""
    period = 1.5 * idle_seconds
    return period - now % period + idle_seconds * rng.uniform(-0.25, 0.25) + 0.25 * idle_seconds


def _visit(wanted: WantedBroker, rng: random.Random) -> str:
    """Attach, call, go; what went wrong."""
    try:
        with wanted.client() as client:
            return "" if is_right(client, rng.randrange(1 << 30)) else "a wrong answer"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
