"""A server as a process of its own: started, waited for until it listens, and ended, by its process id.

The servers of `demo`, `http` and `peers` are started here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
from typing_extensions import Self

from benchmarks.machine import ROOT
from broker.bench.load.forks import die_with_parent

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")

KILL_SECONDS = 5.0
_PAUSE_SECONDS = 0.01
_SAID_LINES = 8


class ServerFailed(Exception):
    """The server ended, or did not answer in time. The text ends with its last lines."""


class ServerProcess:
    """A running server. `began` is when its command was started, on the monotonic clock."""

    stop_seconds = 20.0
    ends_tree = True
    """Whether `stop` kills what the server has started and left running. Orphans are found only in a subreaper."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path | None = None,
        **options: Any,
    ) -> None:
        """`log` is the file for its output; without one it inherits stdout and stderr. `options` are those of Popen."""
        self.name = name
        self.stopped_in_order = True
        self.log = log
        output = {} if log is None else {"stdout": os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)}
        self.began = monotonic()
        try:
            self.process = subprocess.Popen(
                list(command),
                cwd=ROOT,
                env={**os.environ, **environment},
                **{"stdin": subprocess.DEVNULL, **output, "stderr": output.get("stdout"), **options},
            )
        finally:
            for number in output.values():
                os.close(number)

    @property
    def pid(self) -> int:
        return self.process.pid

    def check(self) -> None:
        """Raises ServerFailed if the server has ended."""
        status = self.process.poll()
        if status is not None:
            raise self.failed(f"{self.name} ended with status {status}")

    def wait_until(self, found: Callable[[], T | None], seconds: float, what: str) -> T:
        """Call `found` until it finds something. Raises ServerFailed if the server ends, or if that takes longer."""
        limit = monotonic() + seconds
        while monotonic() < limit:
            if (result := found()) is not None:
                return result
            self.check()
            time.sleep(_PAUSE_SECONDS)
        raise self.failed(f"{self.name}: not {what} after {seconds:g} s")

    def failed(self, why: str) -> Exception:
        return ServerFailed(f"{why}: {' | '.join(self.last_lines(_SAID_LINES)) or '(no output)'}")

    def last_lines(self, count: int) -> list[str]:
        """The last lines of its log."""
        if self.log is None:
            return []
        return [line.strip() for line in self.log.read_text("utf-8", "replace").splitlines()[-count:]]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal, and SIGKILL if that does not help. Idempotent."""
        below = self._below()
        others = set(psutil.Process().children(recursive=True)) - below
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(self.stop_seconds)
            except subprocess.TimeoutExpired:
                self.stopped_in_order = False
                self.process.kill()
                self.process.wait()
        if self.ends_tree or not self.stopped_in_order:
            _kill((below | set(psutil.Process().children(recursive=True))) - others)

    def _below(self) -> set[psutil.Process]:
        if self.process.poll() is not None:
            return set()
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.pid)
            return {root, *root.children(recursive=True)}
        return set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def end_with_us() -> None:
    """For Popen's `preexec_fn`: the kernel sends the server SIGTERM when the process that started it ends."""
    die_with_parent(signal.SIGTERM)


def _kill(processes: set[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, KILL_SECONDS)
