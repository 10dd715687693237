"""One arm of a comparison, and the process that it runs in."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from array import array
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks.machine import ROOT

START_TIMEOUT_S = 120.0
WINDOW_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0

ENDED = "ended by itself"


class ArmFailed(Exception):
    """An arm could not be run, or answered wrongly. There is no figure then, and no run."""


@dataclass(frozen=True)
class Arm:
    """`factory` is "package.module:name" of a `timed.Factory`, or `timed.CrewFactory` for several workers.

    `calls` is this arm's share of a window's calls; `facts` are what a table says of it beside its label; `python` is
    the interpreter that it runs with.
    """

    name: str
    label: str
    factory: str
    workload: str
    options: dict[str, Any] = field(default_factory=dict)
    calls: float = 1.0
    facts: dict[str, Any] = field(default_factory=dict)
    python: str = sys.executable


class ArmProcess:
    """An arm, running. Its windows are run one at a time."""

    subject = "benchmarks.harness.subject"
    """The module that the arm's process runs."""

    def __init__(self, arm: Arm, seed: int, group: Path | None = None) -> None:
        """`group` is the folder of a control group that the arm is to be in."""
        self.arm = arm
        spec = {"factory": arm.factory, "workload": arm.workload, "options": arm.options, "seed": seed}
        ours, theirs = socket.socketpair()
        self._output: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        with theirs:
            self._process = subprocess.Popen(
                [arm.python, "-m", self.subject, str(theirs.fileno()), json.dumps(spec)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                cwd=ROOT,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            )
        self._connection = Connection(ours.detach())
        if group is not None:  # before it has had time to start others
            (group / "cgroup.procs").write_text(str(self.pid))

    @property
    def pid(self) -> int:
        return self._process.pid

    def await_ready(self) -> dict[str, Any]:
        """Return when the arm has answered each input once; what it says of itself. Raises ArmFailed."""
        return self._receive(START_TIMEOUT_S, "start")

    def window(self, calls: int, warm_up: int) -> tuple[array[int], int]:
        """Nanoseconds of each call, and how many answers were checked. Raises ArmFailed."""
        message = self._run(calls, warm_up)
        return message["taken_ns"], message["checked"]

    def stop(self) -> None:
        """Idempotent."""
        self._connection.close()  # the arm closes by itself then
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    def _run(self, *how_long: float) -> dict[str, Any]:
        """A window, as the subject reports it."""
        try:
            self._connection.send({"run": how_long})
        except BrokenPipeError:
            raise self._failed(ENDED) from None
        return self._receive(WINDOW_TIMEOUT_S, "finish a window")

    def _receive(self, timeout_s: float, what: str) -> dict[str, Any]:
        try:
            if not self._connection.poll(timeout_s):
                raise self._failed(f"took longer than {timeout_s:g} s to {what}")
            message: dict[str, Any] = self._connection.recv()
        except (EOFError, ConnectionError):
            raise self._failed(ENDED) from None
        if "error" in message:
            raise self._failed(message["error"].strip().splitlines()[-1])
        return message

    def _failed(self, why: str) -> ArmFailed:
        self._output.seek(0)
        said = self._output.read().decode(errors="replace").strip().splitlines()
        return ArmFailed("\n".join([f"the arm {self.arm.name!r} failed: {why}", *said[-20:]]))
