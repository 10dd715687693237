"""`onesession run` as pid 1 of a container: it is the parent of every orphan."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import brokers
from tests.commands import commands
from tests.process.models import SOURCES

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")

ORPHANS = """
import os, subprocess, sys, time
from pathlib import Path
import numpy as np
import worker_client
assert os.getppid() == 1, "not below pid 1"

def zombies():
    stats = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat")]
    return [stat for stat in stats if stat[:2] == ["Z", "1"]]

for _ in range(20):  # each leaves one
    subprocess.run(["sh", "-c", "sleep 0.05 &"], check=True)
limit = time.monotonic() + 30
while len([p for p in Path("/proc").glob("[0-9]*/comm") if p.read_text() == "sleep\\n"]) and time.monotonic() < limit:
    time.sleep(0.05)
while zombies() and time.monotonic() < limit:
    time.sleep(0.01)
assert not zombies(), zombies()
x = np.ones((1, 4), np.float32)
model = worker_client.connect().model("double")
assert (model.predict(x) == 2 * x).all()
import signal
from broker.control_plane.locks import note_at
pid = note_at(Path(os.environ["BROKER_ADDRESS"])).pid
os.kill(pid, signal.SIGKILL)
assert (model.predict(x, timeout=60) == 2 * x).all(), "its own child's end was seen"
sys.exit(7)
"""


def _can_unshare() -> bool:
    try:
        return (
            subprocess.run([*UNSHARE, "true"], capture_output=True, timeout=30, check=False).returncode == 0
        )
    except OSError:
        return False


@pytest.fixture
def place() -> Iterator[Path]:
    with brokers.folder() as path:
        yield path


@pytest.mark.skipif(not _can_unshare(), reason="needs a pid namespace: root, or user namespaces")
def test_orphans_are_reaped_and_own_children_are_not(place: Path) -> None:
    """None stays a zombie; the command's status is handed on, and the broker's death is seen and repaired."""
    with commands(place) as start:
        words = ("run", "--model", f"double={SOURCES['double']}", "--", sys.executable, "-c", ORPHANS)
        status, _out, err = start(*words, before=UNSHARE).end()
        assert status == 7, err
        assert f"killed by {signal.SIGKILL.name}; starting it again" in err
