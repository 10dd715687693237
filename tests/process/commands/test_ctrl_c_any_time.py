"""Ctrl-C at random moments of the first two seconds of each command: status 130, and never a traceback.

They count from where our first line runs: until then the interpreter is starting, and does as it does.
"""

from __future__ import annotations

import os
import pty
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import brokers
from tests.brokers import TestBroker
from tests.commands import PATIENCE_S, ROOT
from tests.process.models import SOURCES

MODELS = ("double",)
INTERRUPTED = 128 + signal.SIGINT
DOUBLE = SOURCES["double"]
OF_BROKERS = {
    "serve": ("serve", "--model", f"double={DOUBLE}"),
    "supervised": ("serve", "--supervise", "--model", f"double={DOUBLE}"),
    "run": ("run", "--model", f"double={DOUBLE}", "--", "sleep", "5"),
    "bench": ("bench", f"double={DOUBLE}", "--workers", "1,2"),
    "try": ("try", f"double={DOUBLE}"),
}
OF_READERS = {
    "top": ("top",),
    "status": ("status",),
    "ls": ("ls",),
    "doctor": ("doctor",),
    "stats": ("stats",),
}
SECONDS = 2.0
PROGRAM = """
import os, sys
from broker.command import main
os.write(int(sys.argv.pop(1)), b"!")
main()
"""


@pytest.fixture
def place() -> Iterator[Path]:
    with brokers.folder() as path:
        yield path


def check(address: Path, words: tuple[str, ...], seconds: float) -> None:
    """Start it at a terminal, send what a terminal sends after so long, and see how it ends. One that was faster than
    that ends as it does."""
    terminal, its_end = pty.openpty()
    reader = Reader(terminal)
    begins, its_word = os.pipe()
    command = [sys.executable, "-c", PROGRAM, str(its_word), *words]
    env = {**os.environ, "BROKER_ADDRESS": str(address), "TERM": "xterm"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        start_new_session=True,
        pass_fds=(its_word,),
    )
    os.close(its_end)
    os.close(its_word)
    try:
        assert os.read(begins, 1) == b"!"
        time.sleep(seconds)
        was_there = process.poll() is None
        if was_there:
            os.killpg(process.pid, signal.SIGINT)
        status = process.wait(PATIENCE_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(PATIENCE_S)
        os.close(begins)
        said = reader.close()
    assert "Traceback" not in said, (seconds, said)
    assert "Exception ignored" not in said, (seconds, said)
    # A command that asks may have been over, but for its end, when the signal came: then its own status counts.
    # A serving broker stops in order, with status 0. To a shell, death by SIGINT is status 130 as well.
    was_over = words[0] in OF_READERS and words[0] != "top" and status == 0
    in_order = words[0] == "serve" and status == 0 and "stopping" in said
    assert status in (INTERRUPTED, -signal.SIGINT) or not was_there or was_over or in_order, (
        seconds,
        status,
        said,
    )


class Reader(threading.Thread):
    """What a command writes on its terminal, so that it never waits for us."""

    def __init__(self, terminal: int) -> None:
        super().__init__(daemon=True)
        self._terminal = terminal
        self._said = b""
        self.start()

    def run(self) -> None:
        while True:
            try:
                read = os.read(self._terminal, 1 << 16)
            except OSError:  # the last process at its other end is gone
                return
            self._said += read

    def close(self) -> str:
        self.join(PATIENCE_S)
        os.close(self._terminal)
        return self._said.decode(errors="replace")


def moments(times: int, seed: str) -> list[float]:
    draw = random.Random(seed)
    return sorted(draw.uniform(0.005, SECONDS) for _ in range(times))


@pytest.mark.parametrize("name", [*OF_BROKERS])
def test_commands_that_start_a_broker(place: Path, name: str) -> None:
    for seconds in moments(4, name):
        check(place / "b.sock", OF_BROKERS[name], seconds)


@pytest.mark.parametrize("name", [*OF_READERS])
def test_commands_that_ask_one(broker: TestBroker, name: str) -> None:
    for seconds in moments(4, name):
        check(Path(broker.address), OF_READERS[name], seconds)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*OF_BROKERS, *OF_READERS])
def test_thirty_moments(place: Path, broker: TestBroker, name: str) -> None:
    """The same, more often."""
    address = Path(broker.address) if name in OF_READERS else place / "b.sock"
    for seconds in moments(30, f"thirty {name}"):
        check(address, {**OF_BROKERS, **OF_READERS}[name], seconds)
