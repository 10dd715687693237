"""An address that cannot be used: what the broker says at its start, and what a worker says at its first call."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import worker_client
from broker.control_plane.address_lock import Instance
from tests import brokers
from tests.brokers import serving
from tests.workers import in_child
from worker_client import BrokerError, BrokerUnavailable
from worker_client.wire import address
from worker_client.wire.address import runtime_directory, socket_path

NOBODY = 65534
ROW = np.ones((1, 4), np.float32)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def place() -> Iterator[Path]:
    with brokers.folder() as path:
        yield path


def said_by_broker(path: Path) -> str:
    """What keeps a broker from serving at this socket."""
    with pytest.raises(BrokerError) as caught:
        Instance(path).release()
    return str(caught.value)


def said_by_worker(path: Path) -> str:
    with worker_client.connect(path) as client, pytest.raises(BrokerUnavailable) as caught:
        client.model("double").predict(ROW)
    return str(caught.value)


def as_nobody(function: Callable[[Path], str], path: Path) -> str:
    """`function(path)`, by another user's process."""

    def child() -> str:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        return function(path)

    said: str = in_child(child)
    return said


def test_a_directory_that_does_not_exist(place: Path) -> None:
    """The broker says how to make it; the worker says which directory is missing."""
    path = place / "missing" / "b.sock"
    assert f"mkdir -m 700 {path.parent}" in said_by_broker(path)
    assert f"there is no directory {path.parent}" in said_by_worker(path)


def test_a_file_for_a_directory(place: Path) -> None:
    """A file where the directory should be is named on both sides."""
    file = place / "file"
    file.touch()
    assert f"the broker's socket should be in {file}, which is not a directory" in said_by_broker(
        file / "b.sock"
    )
    assert f"{file} is not a directory" in said_by_worker(file / "b.sock")


def test_a_file_for_a_socket(place: Path) -> None:
    """A file in the socket's place is neither connected to nor replaced, and both sides say so."""
    file = place / "b.sock"
    file.write_text("precious")
    assert "exists and is not a socket; move it away" in said_by_broker(file)
    assert "that is a file, and no socket" in said_by_worker(file)
    assert file.read_text() == "precious"


def test_no_socket(place: Path) -> None:
    """A worker before its broker is told that there is no socket yet, and how to start a broker."""
    said = said_by_worker(place / "b.sock")
    assert "there is no such socket" in said
    assert "broker serve" in said


def test_a_stale_socket(place: Path) -> None:
    """What a killed broker left says so to workers, and does not hinder the next broker."""
    path = place / "b.sock"
    with serving("double", path=path) as broker:
        broker.signal(signal.SIGKILL)
        broker.stop()
        assert path.is_socket()
        assert "its broker has died without cleaning up" in said_by_worker(path)
    with serving("double", path=path), worker_client.connect(path) as client:
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)


@as_root
def test_another_users_directory(place: Path) -> None:
    """A directory that may be seen but not written is told with its owner; one that may not be seen, too."""
    place.chmod(0o755)
    assert "may not be written by uid 65534; it belongs to uid 0, mode 0755" in as_nobody(
        said_by_broker, place / "b.sock"
    )
    place.chmod(0o700)
    assert "belongs to uid 0, mode 0700" in as_nobody(said_by_broker, place / "b.sock")
    assert f"uid {NOBODY} may not use {place}, which belongs to uid 0, mode 0700" in as_nobody(
        said_by_worker, place / "b.sock"
    )
    assert "cannot be reached by uid 65534" in as_nobody(said_by_broker, place / "deeper" / "b.sock")


@as_root
def test_another_users_socket(place: Path) -> None:
    """A worker whom the broker was not told of learns whose socket it is and how it would be let in."""
    place.chmod(0o755)
    with serving("double", path=place / "b.sock"):
        said = as_nobody(said_by_worker, place / "b.sock")
    assert f"may not use {place / 'b.sock'}, which belongs to uid 0, mode 0600" in said
    assert "--allow-uid" in said


@as_root
def test_what_another_user_left(place: Path) -> None:
    """In a directory that all may write, another user's lock or socket is told, not a traceback."""
    place.chmod(0o1777)
    lock = place / "b.sock.lock"
    lock.touch(0o600)
    assert "b.sock.lock cannot be opened by uid 65534" in as_nobody(said_by_broker, place / "b.sock")
    lock.unlink()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.fspath(place / "b.sock"))
    assert "b.sock, which a dead broker left, cannot be removed" in as_nobody(
        said_by_broker, place / "b.sock"
    )


def test_the_runtime_directory_is_made_for_us_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker makes the directory of its names, closed to others, and refuses one that others may write."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", os.fspath(place))
    Instance(socket_path("b")).release()
    directory = place / "onesession"
    assert directory.stat().st_mode & 0o777 == 0o700
    directory.chmod(0o777)
    assert "(mode 0777)" in said_by_broker(socket_path("b"))


def test_a_runtime_directory_that_cannot_be_made(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the directory above it, the broker says which one it wanted, and the way round."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", os.fspath(place / "missing" / "onesession"))
    said = said_by_broker(socket_path("b"))
    assert "missing/onesession for the broker's socket cannot be made" in said
    assert "BROKER_ADDRESS" in said


@as_root
def test_who_may_not_enter_the_services_directory_has_its_own(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/run/onesession counts for those whom it lets in; a broker of somebody else's is not looked for there."""
    system = place / "onesession"
    system.mkdir(0o700)
    place.chmod(0o755)
    for variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(address, "_SYSTEM", system)
    assert runtime_directory() == system
    assert as_nobody(lambda _: os.fspath(runtime_directory()), system) == f"/tmp/onesession-{NOBODY}"
    system.chmod(0o711)
    assert as_nobody(lambda _: os.fspath(runtime_directory()), system) == os.fspath(system)


def test_a_released_address_can_be_forgotten(place: Path) -> None:
    """A child that is forked after the broker's end has nothing left to close."""
    instance = Instance(place / "b.sock")
    instance.release()
    instance.after_fork_in_child()
    instance.after_fork_in_child()
