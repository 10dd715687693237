"""A peer's server and the workers that call it, as an arm of the harness.

this process (harness.several_workers, in the peer's environment)
  ├─ server    `python -m benchmarks.peers.server MODULE PLACE`: MODULE.serve(place), and whatever it starts
  └─ workers   each with MODULE.CONNECT(place) open, in a closed loop
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.harness.timed import ArmWorker, ArmWorkers, Timed
from benchmarks.peers.place import ServerPlace, free_ports
from benchmarks.server_process import ServerProcess, end_with_us
from benchmarks.workloads import Workload
from broker.bench.load.forks import fork

START_TIMEOUT_S = 90.0
_PAUSE_S = 0.05
_GRACE_S = 1.0
_PR_SET_CHILD_SUBREAPER = 36


@contextmanager
def server_arm(
    workload: Workload,
    workers: int,
    module: str,
    connect: str,
    directory: str,
    path: str | None,
    threads: int,
) -> Iterator[ArmWorkers]:
    # What a server's own processes leave running becomes ours, and ends with it.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    row, answer = workload.inputs[0].shape[1:], workload.answers[0].shape[1:]
    with tempfile.TemporaryDirectory(prefix="p", dir=directory) as own:
        place = ServerPlace(own, free_ports(), workload.name, path, threads, row, answer)
        importlib.import_module(module).preload()
        log = Path(own, "output")
        command = [sys.executable, "-m", "benchmarks.peers.server", module, place.to_json()]
        environment = {"TMPDIR": own, "XDG_RUNTIME_DIR": own}
        with ServerProcess("the server", command, environment, log, preexec_fn=end_with_us) as server:
            _await_answer(server, module, connect, place, workload.inputs[0], log)
            yield ArmWorkers([ArmWorker(partial(_open, module, connect, place), workload)] * workers)


@contextmanager
def _open(module: str, connect: str, place: ServerPlace) -> Iterator[Timed]:
    with getattr(importlib.import_module(module), connect)(place) as call:
        yield Timed(call)


def _await_answer(
    server: ServerProcess, module: str, connect: str, place: ServerPlace, x: np.ndarray, log: Path
) -> None:
    """Return when a call was answered. Raises ServerFailed."""
    probe = fork(_call_until_answered, module, connect, place, x, log)
    try:
        status = server.wait_until(partial(_status, probe), START_TIMEOUT_S + _GRACE_S, "answering")
    except BaseException:
        os.kill(probe, signal.SIGKILL)
        os.waitpid(probe, 0)
        raise
    if status:
        raise server.failed(f"{server.name}: no answer within {START_TIMEOUT_S:g} s")


def _status(pid: int) -> int | None:
    """The exit status of a child; None while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return status if found else None


def _call_until_answered(module: str, connect: str, place: ServerPlace, x: np.ndarray, log: Path) -> None:
    """The body of a process of its own: some clients (gRPC) do not survive a fork, and the workers are forked later."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND), 2)
    limit = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with _open(module, connect, place) as timed:
                timed.call(x)
            return
        except Exception:
            if time.monotonic() > limit:
                raise
            time.sleep(_PAUSE_S)
