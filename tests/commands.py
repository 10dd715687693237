"""The command `broker` in its own process, for tests."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.process.models import GATE_VARIABLE

ROOT = Path(__file__).parents[1]
PATIENCE_S = 60

WAITER = """
import signal, sys, time
def stop(number, frame):
    print("got", number, flush=True)
    sys.exit(40)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
    signal.signal(number, stop)
print("ready", file=sys.stderr, flush=True)
time.sleep(60)
"""
"""A program for `onesession run`: says when it is ready, and ends with status 40 at a signal that it names."""


class Command:
    """One `python -m broker ...`, in its own session so that it gets none of our signals. `before` are the words of a
    program that starts it, `options` those of Popen."""

    def __init__(self, place: Path, *words: str, before: tuple[str, ...] = (), **options: Any) -> None:
        self.place = place
        given = {
            "cwd": ROOT,
            "env": {**os.environ, "BROKER_ADDRESS": str(place / "b.sock"), GATE_VARIABLE: str(place)},
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "start_new_session": True,
            **options,
        }
        self.process = subprocess.Popen([*before, sys.executable, "-m", "broker", *words], **given)
        self.seen = ""

    def wait_for(self, text: str) -> None:
        """Read stderr until a line has this text."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.seen += line
            if text in line:
                return
        raise AssertionError(f"it ended without {text!r}:\n{self.seen}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, self.seen + err

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=PATIENCE_S)


def command_of(run: int) -> psutil.Process:
    """The running command of this `onesession run`, whose children are that, the broker in a session of its own and,
    for a moment, a copy of `run` that starts the witness of signals."""
    own = psutil.Process(run).cmdline()
    found = []
    for child in psutil.Process(run).children():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(child.pid) == os.getsid(run) and child.cmdline() not in (own, []):
                found.append(child)
    (command,) = found
    return command


@contextlib.contextmanager
def commands(place: Path) -> Iterator[Callable[..., Command]]:
    """Starts commands, with the address `b.sock` in `place`, and ends them."""
    with contextlib.ExitStack() as stack:

        def start(*words: str, **options: Any) -> Command:
            command = Command(place, *words, **options)
            stack.callback(command.close)
            return command

        yield start
