"""gunicorn with one of the demo's apps, under `onesession run` or alone: started, warmed up, measured, stopped.

programs/hooks.py reports its events as datagrams, so nothing here waits for a fixed time: `listening` with the port
that the kernel chose, and `answered` from each worker with the time from its fork to its first answer.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from benchmarks import memory
from benchmarks.demo import client
from benchmarks.demo.broker import BrokerCommand
from benchmarks.demo.program import Message, Program

START_SECONDS = 120.0
REQUEST_SECONDS = 60.0  # a worker that imports TensorFlow may let the first request wait as long


@dataclass(frozen=True)
class WorkerStart:
    """One worker's first answer: how long after its fork, and after the command that started it all."""

    pid: int
    seconds: float
    since_command: float


class DemoServer:
    """One gunicorn. `address` is (host, port) once it listens."""

    def __init__(self, app: str, workers: int, directory: Path, broker: BrokerCommand | None = None) -> None:
        self.workers = workers
        self.address = ("", 0)
        self.arbiter_pid = 0
        self._enough = threading.Event()
        self._has_broker = broker is not None
        self._warmers: list[threading.Thread] = []
        self._failures: list[str] = []
        path = directory / "inbox.sock"
        path.unlink(missing_ok=True)
        self._inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._inbox.bind(os.fspath(path))
        self._inbox.settimeout(0.2)
        command = [sys.executable, "-m", "gunicorn", "--workers", str(workers), "--bind", "127.0.0.1:0"]
        command += ["--log-level", "warning", "--config", "python:benchmarks.demo.programs.hooks", app]
        if broker is not None:
            command = [*broker.run_command, *command]
        environment = {"DEMO_INBOX": os.fspath(path), "DEMO_MODEL": os.fspath(directory / "digits")}
        try:
            self.program = Program(
                "onesession run" if broker else "gunicorn", command, directory, environment
            )
        except BaseException:
            self._inbox.close()
            raise

    def wait_until_listening(self) -> None:
        event = self._next_event("listening")
        self.address = tuple(event["address"])
        self.arbiter_pid = event["pid"]

    def warm_up(self, pixels: list[int]) -> list[WorkerStart]:
        """Send requests until every worker has answered one; how long each took from its fork to there."""
        for _ in range(self.workers):
            thread = threading.Thread(target=self._warm, args=(pixels,), daemon=True)
            thread.start()
            self._warmers.append(thread)
        starts = self._first_answers()
        self._end_warm_up()
        return starts

    def post(self, pixels: list[int]) -> tuple[int, Any]:
        """One request: the status and the answer."""
        body = json.dumps({"pixels": pixels}).encode()
        status, answer = client.post(self.address, body, REQUEST_SECONDS)
        try:
            return status, json.loads(answer)
        except ValueError:
            return status, answer.decode("utf-8", "replace")

    def memory(self) -> list[memory.ProcessMemory]:
        """The memory of every process of this tree, parents first."""
        return memory.tree(self.program.pid)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ends gunicorn first: a thread may be waiting for an answer that will not come."""
        self._enough.set()
        self.program.stop(number)
        self._end_warm_up()
        self._inbox.close()

    def __enter__(self) -> DemoServer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # At SIGTERM gunicorn lets workers finish their start, which takes long where each imports TensorFlow.
        self.stop(signal.SIGINT if kind is not None and not self._has_broker else signal.SIGTERM)

    def _end_warm_up(self) -> None:
        self._enough.set()
        while self._warmers:
            self._warmers.pop().join()

    def _warm(self, pixels: list[int]) -> None:
        """The pause leaves the processors to the workers that are still starting."""
        while not self._enough.wait(0.005):
            try:
                status, answer = self.post(pixels)
            except (OSError, http.client.HTTPException) as error:
                status, answer = 0, f"{type(error).__name__}: {error}"
            if status != 200:
                why = answer["error"] if isinstance(answer, dict) else answer
                self._failures.append(f"a worker answered its first request with {status or why}")
                return

    def _first_answers(self) -> list[WorkerStart]:
        starts: dict[int, WorkerStart] = {}
        while len(starts) < self.workers:
            event = self._next_event("answered")
            starts[event["pid"]] = WorkerStart(
                event["pid"], event["seconds"], monotonic() - self.program.began
            )
        return list(starts.values())

    def _next_event(self, kind: str) -> Message:
        return self.program.wait_until(partial(self._event, kind), START_SECONDS, kind)

    def _event(self, kind: str) -> Message | None:
        if self._failures:
            raise self.program.failed(self._failures[0])
        try:
            event: Message = json.loads(self._inbox.recv(4096))
        except TimeoutError:
            return None
        return event if event["event"] == kind else None
