"""Processes that ask for the node's broker all at once: one round of T22.

parent --go--> process: shared(...), predict --right or the error--> parent: who serves, how many were started
       --end-> it ends, and so does the broker
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import time
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import workloads
from benchmarks.harness.lifetime import die_with_parent
from broker.control_plane.query import ask
from worker_client import Client, node

PATIENCE_S = 120.0
MODEL = "head"


@dataclass(frozen=True)
class Wanted:
    """What every process asks for."""

    models: dict[str, Any]
    idle_seconds: float
    log: str

    def client(self) -> Client:
        return node.shared(self.models, idle_seconds=self.idle_seconds, log=self.log, timeout=PATIENCE_S)

    def starts(self) -> int:
        """How many brokers have begun to load: each says so, once it has the address."""
        log = Path(self.log)
        return log.read_text().count("loading ") if log.exists() else 0

    def files(self) -> list[str]:
        """What there is of its broker."""
        path = Path(self.client().address)
        return sorted(each.name for each in path.parent.glob(f"{path.stem}.*"))


@dataclass
class Round:
    """What became of one round."""

    callers: int = 0
    killed: int = 0
    right: int = 0
    errors: list[str] = field(default_factory=list)
    brokers: set[int] = field(default_factory=set)
    starts: int = 0
    left: list[str] = field(default_factory=list)


def is_right(client: Client, number: int) -> bool:
    """One call, with an answer that nobody else can have got."""
    x = np.random.default_rng(number).normal(size=(1 + number % 3, 128)).astype(np.float32)
    return bool(np.array_equal(client.model(MODEL).predict(x), workloads.head(x)))


def play(wanted: Wanted, processes: int, rng: random.Random, kill: bool) -> Round:
    """Start so many at once; kill one of them meanwhile."""
    before = wanted.starts()
    members = [_Member(wanted, number) for number in range(processes)]
    victim = rng.randrange(processes) if kill else None
    try:
        for member in members:
            member.pipe.send("go")
        if victim is not None:
            time.sleep(rng.random() ** 2)
            os.kill(members[victim].pid, signal.SIGKILL)
        found = Round(callers=processes, killed=int(kill))
        for member in members:
            if victim is None or member is not members[victim]:
                member.judge(found)
        found.starts = wanted.starts() - before
    finally:
        for member in members:
            member.end()
    limit = time.monotonic() + wanted.idle_seconds + 2
    while (found_files := wanted.files()) and time.monotonic() < limit:
        time.sleep(0.02)
    found.left = found_files
    return found


class _Member:
    def __init__(self, wanted: Wanted, number: int) -> None:
        self.number = number
        self.pipe, theirs = Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                die_with_parent()
                self.pipe.close()
                _call(wanted, number, theirs)
            finally:
                os._exit(0)
        theirs.close()

    def judge(self, found: Round) -> None:
        try:
            answer = self.pipe.recv() if self.pipe.poll(PATIENCE_S + 10) else "it neither answers nor fails"
        except EOFError:
            answer = "its process has ended"
        if isinstance(answer, int):
            found.right += 1
            found.brokers.add(answer)
        else:
            found.errors.append(f"process {self.number}: {answer}")

    def end(self) -> None:
        with contextlib.suppress(OSError):  # it was killed
            self.pipe.send("end")
        self.pipe.close()
        if not _ends(self.pid, 10.0):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _ends(pid: int, seconds: float) -> bool:
    """Leaves its status to be waited for."""
    fd = os.pidfd_open(pid)
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


def _call(wanted: Wanted, number: int, pipe: Connection) -> None:
    pipe.recv()
    try:
        client = wanted.client()
        right = is_right(client, number)
        pipe.send(ask(client.address, "status")["status"]["pid"] if right else "a wrong answer")
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
    pipe.recv()


def race(wanted: Wanted, processes: int, seconds: float, seed: int) -> tuple[int, list[str]]:
    """Processes that come and go about as fast as the broker ends; how many calls were right, and every error."""
    limit = time.monotonic() + seconds
    ends = [_racer(wanted, number, seed, limit) for number in range(processes)]
    calls, errors = 0, []
    pipes = {pipe: pid for pid, pipe in ends}
    while pipes:
        ready = wait(list(pipes), timeout=PATIENCE_S)
        if not ready:
            raise TimeoutError(f"{len(pipes)} processes neither call nor end")
        for pipe in ready:
            assert isinstance(pipe, Connection)
            try:
                text = pipe.recv()
            except EOFError:
                os.waitpid(pipes.pop(pipe), 0)
                pipe.close()
                continue
            calls += text == ""
            errors += [text] if text else []
    return calls, errors


def _racer(wanted: Wanted, number: int, seed: int, limit: float) -> tuple[int, Connection]:
    ours, theirs = Pipe()
    pid = os.fork()
    if pid == 0:
        try:
            die_with_parent()
            ours.close()
            rng = random.Random(f"{seed} {number}")
            while time.monotonic() < limit:
                theirs.send(_visit(wanted, rng))
                time.sleep(wanted.idle_seconds * 2 * rng.random())
        finally:
            os._exit(0)
    theirs.close()
    return pid, ours


def _visit(wanted: Wanted, rng: random.Random) -> str:
    """Attach, call, go; what went wrong."""
    try:
        with wanted.client() as client:
            return "" if is_right(client, rng.randrange(1 << 30)) else "a wrong answer"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
