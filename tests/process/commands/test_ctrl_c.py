"""Ctrl-C while a command is still being imported, and just after: status 130, and no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.process.broker_process import BEGINNING
from tests import brokers
from tests.commands import PATIENCE_S, ROOT
from tests.process.models import SOURCES

INTERRUPTED = 128 + signal.SIGINT
PROGRAM = """
import os, runpy, signal, sys, threading, time
module, seconds = sys.argv[1], float(sys.argv[2])

def interrupt():
    time.sleep(seconds)
    os.kill(0, signal.SIGINT)  # as a terminal does it: the whole group

class Moment:
    def find_spec(self, name, path=None, target=None):
        if name == module and threading.active_count() == 1:
            threading.Thread(target=interrupt, daemon=True).start() if seconds else interrupt()

sys.meta_path.insert(0, Moment())
sys.argv[1:] = sys.argv[3:]
runpy.run_module("broker", run_name="__main__", alter_sys=True)
"""
"""`python -m broker`, interrupted so many seconds after it has begun to import a module."""


@pytest.fixture
def place() -> Iterator[Path]:
    with brokers.folder() as path:
        yield path


def interrupted(place: Path, module: str, seconds: float, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, module, str(seconds), *words],
        cwd=ROOT,
        env={**os.environ, "BROKER_ADDRESS": str(place / "b.sock")},
        start_new_session=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert (done.returncode, done.stdout) == (INTERRUPTED, ""), done.stderr


RUN = ("run", "--model", f"double={SOURCES['double']}", "--", "sleep", "300")


@pytest.mark.parametrize(
    "module", ["worker_client", "numpy", "click", "broker.cli", "broker.cli.run", "broker.process.entry"]
)
def test_while_it_is_imported(place: Path, module: str) -> None:
    interrupted(place, module, 0.0, "status")


@pytest.mark.parametrize("seconds", [0.1, 0.4, 0.7, 1.0])
def test_in_the_first_second_of_run(place: Path, seconds: float) -> None:
    """From where the program has the word, wherever it has come to by then."""
    interrupted(place, "worker_client", seconds, *RUN)


def test_the_face_is_there_when_it_is_used() -> None:
    """`import broker` imports nothing else, and has all its names."""
    program = (
        "import sys, broker; assert 'numpy' not in sys.modules; assert dir(broker) == sorted(broker.__all__); "
        "[getattr(broker, name) for name in dir(broker)]; from broker import Broker; assert Broker is broker.Broker; "
        "assert not hasattr(broker, 'nothing')"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=PATIENCE_S, check=True)


def _ctrl_c_is_pending() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("ignored", [False, True])
def test_a_ctrl_c_before_the_broker_has_its_own_session_is_its_parents(ignored: bool) -> None:
    """It comes between fork and setsid, and stays pending until the program takes signals."""
    first = BEGINNING.format(mask=[])
    program = first + "print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    command = [sys.executable, "-c", program]
    if ignored:
        command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
    done = subprocess.run(
        command,
        preexec_fn=_ctrl_c_is_pending,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == (f"{ignored}\n", "", 0)
