"""`make mutants` that is stopped: it leaves no process behind, and the checkout as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.brokers import PATIENCE_S, folder, wait_until

ROOT = Path(__file__).parents[3]
BROKEN = "broker/server/lifeline.py"  # without it, a test hangs until it times out


@pytest.fixture
def place() -> Iterator[Path]:
    with folder() as short:
        yield short


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name
)
def test_it_ends_what_it_started(place: Path, number: signal.Signals) -> None:
    """In the middle of a trial, with tests and brokers of broken code running."""
    before = (ROOT / BROKEN).stat()
    command = [sys.executable, "-m", "tests.mutants", "--mutants", "0", "--only", BROKEN]
    environment = {**os.environ, "TMPDIR": os.fspath(place)}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        wait_until(lambda: "pytest" in words_of(process.pid), "a trial")
        started = psutil.Process(process.pid).children(recursive=True)
        (copy,) = place.glob(f"*/checkout/{BROKEN}")
        assert copy.read_bytes() != (ROOT / BROKEN).read_bytes()
    finally:
        process.send_signal(number)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    wait_until(lambda: not any(map(runs, started)), "the end of the trial")
    if number != signal.SIGKILL:  # after which nobody can remove it
        assert list(place.iterdir()) == []
    assert (ROOT / BROKEN).stat() == before


def words_of(pid: int) -> list[str]:
    """Of the command lines of all its descendants."""
    return [word for child in psutil.Process(pid).children(recursive=True) for word in child.cmdline()]


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
