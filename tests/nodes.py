"""A node for tests: its own runtime directory, processes that ask for its broker there, and checks of what is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.brokers import PATIENCE_S, SHM, folder, wait_until
from worker_client.wire.address import name_prefix

DOUBLE = {"double": "tests.process.models:double"}
_CALL = """
import json, os, sys
import numpy as np
from worker_client import node
from broker.control_plane.query import ask
settings = json.loads(sys.argv[1])
try:
    client = node.shared(**settings)
    model = next(iter(settings["models"]))
    y = client.model(model).predict(np.full((2, 4), 3, "float32"))
    status = ask(client.address, "status")["status"]
    print(json.dumps({"y": y.tolist(), "broker": status["pid"], "address": client.address}), flush=True)
except Exception as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
sys.stdin.read()
"""
RIGHT = [[6.0] * 4] * 2


class Caller:
    """A process that calls once and stays attached until `end`."""

    def __init__(self, environment: dict[str, str], before: str, settings: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", before + _CALL, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=Path(__file__).parents[1],
        )
        self.pid = self._process.pid

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def end(self) -> None:
        self._process.communicate()


class Node:
    def __init__(self, place: Path) -> None:
        self.place = place
        self.runtime = place / "onesession"
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": os.fspath(place)}
        self.environment.pop("RUNTIME_DIRECTORY", None)
        self._callers: list[Caller] = []

    def caller(self, models: dict[str, Any] | None = None, before: str = "", **settings: Any) -> Caller:
        wanted = {"models": models or DOUBLE, "idle_seconds": 0.5, **settings}
        caller = Caller(self.environment, before, wanted)
        self._callers.append(caller)
        return caller

    def call(self, *arguments: Any, **settings: Any) -> dict[str, Any]:
        """The answer of a process that makes one call and ends."""
        caller = self.caller(*arguments, **settings)
        answer = caller.answer()
        caller.end()
        return answer

    def files(self) -> list[str]:
        return sorted(os.listdir(self.runtime)) if self.runtime.exists() else []

    def brokers(self) -> list[int]:
        """Live processes that serve here, or are about to."""
        return [process.pid for process in self._processes() if process.is_running()]

    def wait_for_end(self) -> None:
        """Until no broker is left; nothing of one may be left then."""
        wait_until(lambda: not self.brokers(), "the broker's end")
        assert self.files() == []
        assert not [name for name in os.listdir(SHM) if any(stem in name for stem in self._stems)]

    @property
    def _stems(self) -> list[str]:
        return [
            name_prefix(self.runtime / name).strip("/") for name in self.files() if name.endswith(".sock")
        ]

    def _processes(self) -> list[psutil.Process]:
        """The processes of the node. Orphans become our children, so we also reap them."""
        found = []
        for process in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if process.status() == psutil.STATUS_ZOMBIE:
                    if process.pid not in {caller.pid for caller in self._callers}:
                        _reap(process.pid)
                elif "serve" in process.cmdline() and os.fspath(self.runtime) in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def close(self) -> None:
        for caller in self._callers:
            caller.kill()
        limit = time.monotonic() + PATIENCE_S
        while processes := self._processes():
            for process in processes:
                os.kill(process.pid, signal.SIGTERM if time.monotonic() < limit else signal.SIGKILL)
            time.sleep(0.02)


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


@contextlib.contextmanager
def node() -> Iterator[Node]:
    with folder() as place:
        made = Node(place)
        try:
            yield made
        finally:
            made.close()
            _sweep(made.runtime)


def _sweep(runtime: Path) -> None:
    from broker.control_plane import locks
    from broker.sharing.memory import sweep

    for socket in runtime.glob("*.sock"):
        sweep(name_prefix(socket))
        locks.of_names(socket).unlink(missing_ok=True)
