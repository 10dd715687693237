"""What `onesession serve` tells systemd, whose end of the socket is this test."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import worker_client
from tests import brokers
from tests.brokers import Gate
from tests.process.models import GATE_VARIABLE, SOURCES

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60
SLOW_US, QUICK_US = 3_600_000_000, 400_000


class Unit:
    """One `onesession serve` of gated models as systemd starts it."""

    def __init__(self, place: Path, watchdog_us: int, abstract: bool, supervise: bool) -> None:
        self.place = place
        self._supervise = supervise
        self.gate = Gate(place)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(PATIENCE_S)
        name = f"@{place}/notify" if abstract else f"{place}/notify"
        self.socket.bind(name.replace("@", "\0"))
        # systemd sets WATCHDOG_PID, too, to the process that it has started: `exec` keeps it.
        self.process = subprocess.Popen(
            ["sh", "-c", 'WATCHDOG_PID=$$ exec "$@"', "sh", *self._command()],
            cwd=ROOT,
            env={
                **os.environ,
                "NOTIFY_SOCKET": name,
                "WATCHDOG_USEC": str(watchdog_us),
                "BROKER_ADDRESS": str(place / "b.sock"),
                GATE_VARIABLE: str(place),
            },
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _command(self) -> list[str]:
        models = [f"{name}={SOURCES[name]}" for name in ("gated", "gated_inline")]
        options = ["--supervise"] if self._supervise else []
        return [sys.executable, "-m", "broker", "serve", *options, *(f"--model={model}" for model in models)]

    def hear(self) -> list[str]:
        """The lines of the next message."""
        return self.socket.recv(4096).decode().split("\n")

    def hear_until(self, line: str) -> list[str]:
        """What comes before a message with this line."""
        before = []
        while line not in (lines := self.hear()):
            before += lines
        return before

    def close(self) -> None:
        self.gate.open()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=PATIENCE_S)
        self.socket.close()


@contextlib.contextmanager
def unit(watchdog_us: int = SLOW_US, abstract: bool = False, supervise: bool = False) -> Iterator[Unit]:
    with brokers.folder() as place:
        started = Unit(place, watchdog_us, abstract, supervise)
        try:
            yield started
        finally:
            started.close()


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_ready_when_workers_can_attach(abstract: bool) -> None:
    """READY=1 comes first of all, and by then a worker is answered."""
    with unit(abstract=abstract) as served:
        assert "READY=1" in served.hear()
        with worker_client.connect(served.place / "b.sock") as client:
            assert client.models()


def test_stopping_when_told_to_stop() -> None:
    """STOPPING=1 comes at once, while accepted requests still run, and the unit ends with status 0."""
    with unit() as served:
        served.hear_until("READY=1")
        with worker_client.connect(served.place / "b.sock") as client:
            future = client.model("gated").submit({"number": np.array([1]), "x": np.ones(1, np.float32)})
            served.gate.wait_for(1)
            served.process.send_signal(signal.SIGTERM)
            served.hear_until("STOPPING=1")
            assert served.process.poll() is None
            served.gate.open()
            assert future.result(PATIENCE_S)["y"] == 2
        assert served.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("supervise", [False, True], ids=["alone", "supervised"])
def test_the_watchdog_is_kept_while_the_broker_is_idle(supervise: bool) -> None:
    """A broker that nobody calls makes progress all the same: its pings go on."""
    with unit(QUICK_US, supervise=supervise) as served:
        served.hear_until("READY=1")
        for _ in range(4):
            served.hear_until("WATCHDOG=1")


@pytest.mark.parametrize("supervise", [False, True], ids=["alone", "supervised"])
def test_a_stopped_intake_is_not_alive(supervise: bool) -> None:
    """While the intake thread is stuck no ping is sent, and systemd is told why; then they go on. A parent that
    supervises does not ping for a process that hangs."""
    with (
        unit(QUICK_US, supervise=supervise) as served,
        worker_client.connect(served.place / "b.sock") as client,
    ):
        served.hear_until("READY=1")
        inputs = {"number": np.int64(1), "x": np.float32(1)}
        future = client.model("gated_inline").submit(inputs)
        served.gate.wait_for(1)
        served.hear_until("STATUS=no progress of intake")
        assert [served.hear() for _ in range(4)] == [["STATUS=no progress of intake"]] * 4
        served.gate.open()
        served.hear_until("WATCHDOG=1")
        assert future.result(PATIENCE_S)["y"] == 2


def test_a_heavy_run_is_progress() -> None:
    """A model that runs for long on its own thread keeps nobody from the watchdog."""
    with unit(QUICK_US) as served, worker_client.connect(served.place / "b.sock") as client:
        served.hear_until("READY=1")
        future = client.model("gated").submit({"number": np.array([1]), "x": np.ones(1, np.float32)})
        served.gate.wait_for(1)
        for _ in range(4):
            served.hear_until("WATCHDOG=1")
        served.gate.open()
        assert future.result(PATIENCE_S)["y"] == 2
