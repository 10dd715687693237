"""What `onesession doctor` finds in the processes: descriptors, TensorFlow where it should not be, threads."""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import worker_client
from broker.doctor.all_checks import CHECKS
from broker.doctor.finding import Severity
from broker.doctor.target import Target
from tests import brokers
from tests.brokers import TestBroker, serving, wait_until
from tests.process.commands.test_doctor import ROOT, ROW, finding, level
from tests.process.models import SOURCES
from tests.workers import Talk, in_child, worker


@pytest.fixture
def place() -> Iterator[Path]:
    with brokers.folder() as path:
        yield path


def test_few_descriptors_are_told(place: Path) -> None:
    """A broker that has nearly used up its descriptors is found by its own limit and count, not by ours."""
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(serving("double", path=place / "b.sock"))
        resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (64, 64))
        assert level("ulimit -n", broker.address) == "warning"
        for _ in range(60):
            client = stack.enter_context(worker_client.connect(broker.address))
            try:
                client.model("double").predict(ROW)
            except worker_client.BrokerError:
                break
        held = stack.enter_context(contextlib.ExitStack())
        _fill(held, broker)
        found = CHECKS["ulimit -n"](_patient(broker))
        assert found.level is Severity.PROBLEM, found
        assert "of which the broker has" in found.found


def _patient(broker: TestBroker) -> Target:
    """As `check_broker` makes it; this broker has no descriptor left to answer with."""
    status = {"pid": broker.pid, "workers": [], "max_total_bytes": 1 << 30, "shared_memory_bytes": 0}
    return Target(Path(broker.address), status)


def _fill(stack: contextlib.ExitStack, broker: TestBroker) -> None:
    """Take what descriptors the broker has left: connections that never say anything."""
    for _ in range(8):
        sock = stack.enter_context(socket.socket(socket.AF_UNIX))
        sock.connect(broker.address)
    wait_until(
        lambda: len(os.listdir(f"/proc/{broker.pid}/fd")) >= 61, "the broker's descriptors to be used up"
    )


def load_lookalike(place: Path) -> mmap.mmap:
    """Maps a file of the library's name: what the doctor goes by."""
    path = place / "libtensorflow_cc.so.2"
    path.write_bytes(b"\0" * 4096)
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)


def attached(talk: Talk, address: str, place: Path | None) -> None:
    mapped = load_lookalike(place) if place else None
    with worker_client.connect(address) as client:
        client.model("double").predict(ROW)
        talk.say("attached")
        talk.hear()
    del mapped


def load_in_a_worker(broker: TestBroker, place: Path) -> None:
    with worker(attached, broker.address, None, talk=True) as clean:
        clean.hear()
        assert level("TensorFlow in workers", broker.address) == "ok"
        with worker(attached, broker.address, place, talk=True) as heavy:
            heavy.hear()
            pid = heavy.pid
            found = finding("TensorFlow in workers", broker.address)
            heavy.say()
            heavy.result()
        clean.say()
        clean.result()
    assert found.level is Severity.WARNING
    assert f"loaded by {pid} ({Path('/proc/self/comm').read_text().strip()}):" in found.found


def load_in_the_parent(broker: TestBroker, place: Path) -> None:
    def master() -> tuple[int, str]:
        mapped = load_lookalike(place)
        with worker(attached, broker.address, None, talk=True) as child:
            child.hear()
            found = finding("TensorFlow in workers", broker.address)
            child.say()
            child.result()
        del mapped
        return os.getpid(), found.found

    pid, found = in_child(master)
    assert f"the parent {pid} " in found


def with_a_broker(function: str) -> None:
    with brokers.folder() as place, serving("double", path=place / "b.sock") as broker:
        globals()[function](broker, place)


@pytest.mark.parametrize("function", ["load_in_a_worker", "load_in_the_parent"])
def test_tensorflow_beside_the_broker_is_told(function: str) -> None:
    """A worker that has loaded it is named, and not one that has not; if it was forked with it, so is its parent."""
    code = f"from {__name__} import with_a_broker; with_a_broker({function!r})"
    command = [sys.executable, "-c", code]  # this process may have loaded it already
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


def test_more_threads_than_cores_are_told(place: Path) -> None:
    """A heavy model that runs many times side by side is named, with the command that finds what pays."""
    models = {"gated": {"source": SOURCES["gated"], "max_concurrency": 1000}}
    with serving(models=models, path=place / "b.sock") as broker:
        found = finding("cores", broker.address)
    assert found.level is Severity.WARNING
    assert "gated has 1,000 concurrent runs" in found.found
    assert "onesession tune" in found.remedy
