"""A peer's server and the workers that call it, as an arm of the harness.

this process (harness.crew, in the peer's environment)
  ├─ server    `python -m benchmarks.peers.server MODULE PLACE`: MODULE.serve(place), and whatever it starts
  └─ members   each with MODULE.CONNECT(place) open, in a closed loop
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.harness.lifetime import fork
from benchmarks.harness.timed import Crew, Member, Timed
from benchmarks.machine import ROOT
from benchmarks.peers import tree
from benchmarks.peers.place import Place, free_ports
from benchmarks.workloads import Workload

START_TIMEOUT_S = 90.0
_PAUSE_S = 0.05
_GRACE_S = 1.0
_SAID_LINES = 8
_PR_SET_CHILD_SUBREAPER = 36


class ServerFailed(Exception):
    """The peer's server ended, or did not answer in time. The text has its last words."""


@contextmanager
def served(
    workload: Workload,
    workers: int,
    module: str,
    connect: str,
    directory: str,
    path: str | None,
    threads: int,
) -> Iterator[Crew]:
    # What a server's own processes leave running becomes ours, and ends with it.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    row, answer = workload.inputs[0].shape[1:], workload.answers[0].shape[1:]
    with tempfile.TemporaryDirectory(prefix="p", dir=directory) as own:
        place = Place(own, free_ports(), workload.name, path, threads, row, answer)
        importlib.import_module(module).preload()
        with _Server(module, place) as server:
            server.await_answer(connect, workload.inputs[0])
            yield Crew([Member(partial(_open, module, connect, place), workload)] * workers)


@contextmanager
def _open(module: str, connect: str, place: Place) -> Iterator[Timed]:
    with getattr(importlib.import_module(module), connect)(place) as call:
        yield Timed(call)


class _Server:
    """Started when it is made; its whole tree ends with the block."""

    def __init__(self, module: str, place: Place) -> None:
        self._module, self._place = module, place
        self._output = Path(place.directory, "output")
        command = [sys.executable, "-m", "benchmarks.peers.server", module, place.to_json()]
        self._pid = fork(_execute, command, str(self._output), place.directory)

    def await_answer(self, connect: str, x: np.ndarray) -> None:
        """Return when a caller had an answer. Raises ServerFailed."""
        limit = time.monotonic() + START_TIMEOUT_S
        probe = fork(_ask_until_answered, self._module, connect, self._place, x, limit)
        while (found := os.waitpid(probe, os.WNOHANG)) == (0, 0):
            if not tree.runs(self._pid):
                tree.end(probe)
                raise ServerFailed(f"the server ended by itself: {self._said()}")
            if time.monotonic() > limit + _GRACE_S:  # the caller waits for an answer that does not come
                tree.end(probe)
                raise ServerFailed(f"a call was not answered within {START_TIMEOUT_S:g} s: {self._said()}")
            time.sleep(_PAUSE_S / 5)
        if found[1]:
            raise ServerFailed(f"no answer within {START_TIMEOUT_S:g} s: {self._said()}")

    def _said(self) -> str:
        lines = self._output.read_text(errors="replace").strip().splitlines() if self._output.exists() else []
        return " | ".join(line.strip() for line in lines[-_SAID_LINES:]) or "it said nothing"

    def __enter__(self) -> _Server:
        return self

    def __exit__(self, *_: object) -> None:
        tree.end(self._pid)


def _execute(command: list[str], output: str, directory: str) -> None:
    to = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(to, 1)
    os.dup2(to, 2)
    os.chdir(ROOT)
    os.execve(command[0], command, {**os.environ, "TMPDIR": directory, "XDG_RUNTIME_DIR": directory})


def _ask_until_answered(module: str, connect: str, place: Place, x: np.ndarray, limit: float) -> None:
    """In a process of its own: some clients (gRPC) do not survive a fork, and those of the members come later."""
    to = os.open(Path(place.directory, "output"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(to, 2)
    while True:
        try:
            with _open(module, connect, place) as timed:
                timed.call(x)
            return
        except Exception:
            if time.monotonic() > limit:
                raise
            time.sleep(_PAUSE_S)
