"""A log that nobody reads: a pipe that is full, a terminal held by Ctrl-S. It takes no worker's call along."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import worker_client
from broker.control_plane.locks import note_at
from broker.control_plane.query import ask
from tests import brokers
from tests.brokers import wait_until
from tests.commands import PATIENCE_S, commands
from tests.process.models import BAD_VALUE, SOURCES

ROW = np.ones((1, 4), np.float32)


@pytest.fixture
def place() -> Iterator[Path]:
    with brokers.folder() as path:
        yield path


@contextlib.contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """Both ends; the write end would block."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write, b"." * 4096)
        os.set_blocking(write, True)
        yield read, write
    finally:
        os.close(read)
        os.close(write)


@contextlib.contextmanager
def held_terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a pseudo-terminal whose output is stopped, as by Ctrl-S."""
    ours, theirs = pty.openpty()
    try:
        termios.tcflow(theirs, termios.TCOOFF)
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


def answers(address: Path) -> bool:
    try:
        return bool(ask(str(address), "status"))
    except worker_client.BrokerError:
        return False


def talk_much(address: Path) -> None:
    """Workers that come, break the rules and go: each is logged, as are their failures."""
    for _ in range(20):
        with worker_client.connect(address, timeout=PATIENCE_S) as client:
            model = client.model("picky")
            with pytest.raises(worker_client.ModelFailed):
                model.predict(ROW * np.float32(BAD_VALUE))
            np.testing.assert_array_equal(model.predict(ROW), ROW * 2)


@pytest.mark.parametrize("words", [("serve",), ("serve", "--supervise")])
@pytest.mark.parametrize("log", [full_pipe, held_terminal])
def test_a_log_that_nobody_reads(place: Path, log, words: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    """Workers attach and call, a dead broker is replaced, and SIGTERM ends it in order."""
    address = place / "b.sock"
    with log() as (_read, write), commands(place) as start:
        command = start(
            *words,
            *("--model", f"picky={SOURCES['picky']}", "--log-level", "debug"),
            stdout=subprocess.DEVNULL,
            stderr=write,
        )
        wait_until(lambda: answers(address) or command.process.poll() is not None, "a broker that answers")
        talk_much(address)
        if len(words) > 1:
            note = note_at(address)
            assert note is not None
            assert note.pid is not None
            os.kill(note.pid, signal.SIGKILL)
            talk_much(address)
        command.signal(signal.SIGTERM)
        assert command.process.wait(PATIENCE_S) == 0
