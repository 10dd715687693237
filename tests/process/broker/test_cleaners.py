"""Other programs remove the files of an address, as cleaners of temporary files do: workers attach again soon, and
there are never two brokers at one address."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import worker_client
from broker.control_plane import locks
from broker.control_plane.query import ask
from broker.doctor.checks.address import check_broker
from broker.doctor.finding import Severity
from tests import brokers
from tests.brokers import serving, wait_until
from tests.commands import commands
from tests.process.models import SOURCES
from worker_client import BrokerError
from worker_client.wire.address import socket_path

ROW = np.ones((1, 4), np.float32)


@pytest.fixture
def place() -> Iterator[Path]:
    with brokers.folder() as path:
        yield path


def call(path: Path) -> None:
    with worker_client.connect(path) as client:
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)


def answers(path: Path) -> bool:
    try:
        call(path)
    except worker_client.BrokerUnavailable:
        return False
    return True


def remove_files(path: Path) -> None:
    path.unlink()
    locks.of_socket(path).unlink()


def remove_directory(path: Path) -> None:
    shutil.rmtree(path.parent)


def remove_folder(path: Path) -> None:
    """Of the socket, with all that is in it."""
    mode = path.parent.stat().st_mode & 0o777
    remove_directory(path)
    wait_until(path.exists, "the folder to be made again")
    assert path.parent.stat().st_mode & 0o777 == mode


def remove_socket(path: Path) -> None:
    path.unlink()


def remove_lock(path: Path) -> None:
    locks.of_socket(path).unlink()


def remove_names(path: Path) -> None:
    """As logind's RemoveIPC does, which takes the doorbell as well: without that no worker can attach."""
    locks.of_names(path).unlink()


def refused(path: Path) -> str:
    """The error of a second broker at the address."""
    with pytest.raises(BrokerError) as caught:
        brokers.Broker({"double": SOURCES["double"]}, name=str(path), supervise=False).start()
    return str(caught.value)


@pytest.mark.parametrize("remove", [remove_files, remove_folder, remove_socket, remove_lock, remove_names])
@pytest.mark.parametrize("supervise", [False, True])
def test_what_is_removed_is_made_again(place: Path, remove: Callable[[Path], None], supervise: bool) -> None:
    """Attached workers go on, new ones attach again, no second broker starts, and nothing is left at the end."""
    path = place / "b.sock"
    with (
        serving("double", path=path, supervise=supervise) as broker,
        worker_client.connect(path) as client,
    ):
        model = client.model("double")
        np.testing.assert_array_equal(model.predict(ROW), ROW * 2)
        pid = broker.pid
        files = (path, locks.of_socket(path), locks.of_names(path))
        for _ in range(2):
            remove(path)
            assert f"(pid {pid}) already serves {path}" in refused(path)
            np.testing.assert_array_equal(model.predict(ROW), ROW * 2)
            wait_until(lambda: all(file.exists() for file in files), "the files to be made again")
            wait_until(lambda: answers(path), "a worker that attaches")
            assert f"(pid {pid}) already serves {path}" in refused(path)
            assert path.stat().st_mode & 0o777 == 0o600
        assert broker.pid == pid
        if supervise:
            broker.kill_engine()
            np.testing.assert_array_equal(model.predict(ROW), ROW * 2)
            call(path)
            remove(path)
            broker.kill_engine()  # before anybody has looked
            np.testing.assert_array_equal(model.predict(ROW), ROW * 2)
            wait_until(lambda: answers(path), "a worker that attaches")
    assert not list(place.glob("b.sock*"))
    assert not locks.of_names(path).exists()


def test_a_runtime_directory_that_is_removed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`rm -rf` of the directory of names: it is made again for its user alone, and locked against systemd-tmpfiles."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", os.fspath(place))
    path = socket_path("b")
    with brokers.Broker({"double": SOURCES["double"]}, name="b") as broker:
        for _ in range(2):
            fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            with pytest.raises(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(fd)
            remove_directory(path)
            assert "already serves" in refused(path)
            wait_until(lambda: answers(path), "a worker that attaches")
            assert path.parent.stat().st_mode & 0o777 == 0o700
        assert broker.pid
    assert not list(path.parent.glob("*"))


def test_status_and_doctor_tell_the_truth(place: Path) -> None:
    """While the socket is gone, both name the process that lives, and what is missing."""
    path = place / "b.sock"
    with serving("double", path=path) as broker:
        pid = broker.pid
        broker.signal(signal.SIGSTOP)  # so that it does not look
        try:
            remove_files(path)
            with pytest.raises(BrokerError, match=rf"is alive \(pid {pid}\), but its socket was removed"):
                ask(str(path), "status")
            finding, _ = check_broker(path)
            assert finding.level is Severity.PROBLEM
            assert f"pid {pid} serves {path}, but its socket has been removed" in finding.found
        finally:
            broker.signal(signal.SIGCONT)
        wait_until(lambda: answers(path), "a worker that attaches")
        finding, _ = check_broker(path)
        assert finding.level is Severity.OK


def test_a_killed_brokers_lock_in_shm_is_swept(place: Path) -> None:
    """It hinders no broker, and `onesession doctor --sweep` removes it where none starts again."""
    path = place / "b.sock"
    with serving("double", path=path) as broker:
        broker.kill()
        assert locks.of_names(path).exists()
    with commands(place) as start:
        status, out, err = start("doctor", "--sweep", "--json").end()
        assert locks.of_names(path).name in json.loads(out)["swept"], (status, err)
    assert not locks.of_names(path).exists()
