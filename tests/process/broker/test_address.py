"""An address that cannot be used: the broker's error at its start, and the worker's error at its first call."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import worker_client
from broker.control_plane.address_lock import AddressLock
from broker.control_plane.query import ask
from tests import brokers
from tests.brokers import serving
from tests.workers import Talk, in_child, worker
from worker_client import BrokerError, BrokerUnavailable
from worker_client.wire import address
from worker_client.wire.address import runtime_directory, socket_path

NOBODY = 65534
USER = 50_000 + os.getpid() % 10_000  # whose directory in /tmp no other test process uses
OF_USER = Path(f"/tmp/onesession-{USER}")
ROW = np.ones((1, 4), np.float32)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def place() -> Iterator[Path]:
    with brokers.folder() as path:
        yield path


def said_by_broker(path: Path) -> str:
    """What keeps a broker from serving at this socket."""
    with pytest.raises(BrokerError) as caught:
        AddressLock(path).release()
    return str(caught.value)


def said_by_worker(path: Path) -> str:
    with worker_client.connect(path) as client, pytest.raises(BrokerUnavailable) as caught:
        client.model("double").predict(ROW)
    return str(caught.value)


def as_nobody(function: Callable[[Path], str], path: Path, uid: int = NOBODY) -> str:
    """`function(path)`, by another user's process."""

    def child() -> str:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
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
    assert "that is a file, not a socket" in said_by_worker(file)
    assert file.read_text() == "precious"


def test_no_socket(place: Path) -> None:
    """A worker that calls before its broker starts gets an error that says there is no socket yet, and how to start a
    broker."""
    said = said_by_worker(place / "b.sock")
    assert "there is no such socket" in said
    assert "onesession serve" in said


def test_a_stale_socket(place: Path) -> None:
    """What a killed broker left says so to workers, and does not hinder the next broker."""
    path = place / "b.sock"
    with serving("double", path=path) as broker:
        broker.signal(signal.SIGKILL)
        broker.stop()
        assert path.is_socket()
        assert "its broker died without cleaning up" in said_by_worker(path)
    with serving("double", path=path), worker_client.connect(path) as client:
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)


@as_root
def test_another_users_directory(place: Path) -> None:
    """The error names the owner of a directory that this user cannot write, and of one that this user cannot see."""
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
    """A worker that is not allowed learns whose socket it is and how it could be admitted."""
    place.chmod(0o755)
    with serving("double", path=place / "b.sock"):
        said = as_nobody(said_by_worker, place / "b.sock")
    assert f"may not use {place / 'b.sock'}, which belongs to uid 0, mode 0600" in said
    assert "--allow-uid" in said


@as_root
def test_what_another_user_left(place: Path) -> None:
    """In a directory that all may write, another user's lock or socket is reported without a traceback."""
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
    AddressLock(socket_path("b")).release()
    directory = place / "onesession"
    assert directory.stat().st_mode & 0o777 == 0o700
    directory.chmod(0o777)
    assert "(mode 0777)" in said_by_broker(socket_path("b"))


def test_a_runtime_directory_that_cannot_be_made(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the parent directory, the broker's error names the directory and an alternative."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", os.fspath(place / "missing" / "onesession"))
    said = said_by_broker(socket_path("b"))
    assert "missing/onesession for the broker's socket cannot be made" in said
    assert "BROKER_ADDRESS" in said


@pytest.fixture
def system(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In place of /run/onesession; a user of the tests has no directory yet."""
    place.chmod(0o755)
    for variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR", "BROKER_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(address, "_SYSTEM", place / "onesession")
    shutil.rmtree(OF_USER, ignore_errors=True)
    yield place / "onesession"
    shutil.rmtree(OF_USER, ignore_errors=True)


@as_root
def test_the_services_directory_lets_others_pass(system: Path) -> None:
    """They cannot list it, and what is in it is open to those alone whom its broker lets in."""
    before = os.umask(0o077)
    try:
        address_lock = AddressLock(socket_path("b"))
    finally:
        os.umask(before)
    assert address_lock.path == system / "b.sock"
    assert system.stat().st_mode & 0o777 == 0o711
    assert {path.stat().st_mode & 0o077 for path in system.iterdir()} == {0}
    address_lock.release()


@as_root
@pytest.mark.parametrize("mode", [0o700, 0o711, 0o755])
def test_a_user_serves_in_a_directory_of_his_own(system: Path, mode: int) -> None:
    """Whatever its mode, a user's brokers serve in /run/onesession only if it belongs to that user, else in the user's
    own directory."""
    system.mkdir()
    system.chmod(mode)
    assert runtime_directory() == system
    assert as_nobody(serve_by_name, system, USER) == os.fspath(OF_USER / "mine.sock")
    os.chown(system, USER, -1)
    assert as_nobody(serve_by_name, system, USER) == os.fspath(system / "mine.sock")


def serve_by_name(_: Path) -> str:
    address_lock = AddressLock(socket_path("mine"))
    address_lock.release()
    return os.fspath(address_lock.path)


@as_root
def test_a_user_finds_roots_broker_by_name(system: Path) -> None:
    """A user finds a broker of root that admits that user, unless the user's own broker has the name, also with an
    older client."""
    system.mkdir(0o711)
    with (
        serving("double", path=system / "open.sock", allow_uid=(USER,)),
        serving("double", path=system / "closed.sock"),
    ):
        assert as_nobody(find_both, system, USER) == os.fspath(system / "open.sock")
        assert f"no broker answers at {OF_USER}/closed.sock" in as_nobody(find_closed, system, USER)


def find_both(system: Path) -> str:
    own = AddressLock(socket_path("open"))
    client = worker_client.connect("open")
    assert client.address == os.fspath(own.path) == os.fspath(OF_USER / "open.sock")
    own.release()
    with client:
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)
        assert ask("open", "status")["status"]["address"] == client.address
        return client.address


def find_closed(_: Path) -> str:
    with worker_client.connect("closed") as client, pytest.raises(BrokerUnavailable) as caught:
        client.model("double").predict(ROW)
    return str(caught.value)


@as_root
def test_who_makes_a_users_directory_first_gains_nothing(system: Path) -> None:
    """A stranger's socket in it is neither taken for the user's own nor asked; who would serve there is told."""
    system.mkdir(0o711)
    OF_USER.mkdir(0o755)
    os.chown(OF_USER, NOBODY, NOBODY)
    with (
        serving("double", path=system / "open.sock", allow_uid=(USER,)),
        stranger_listens(OF_USER / "open.sock"),
        stranger_listens(OF_USER / "other.sock"),
    ):
        assert as_nobody(find_despite_strangers, system, USER) == os.fspath(system / "open.sock")


@contextlib.contextmanager
def stranger_listens(path: Path) -> Iterator[None]:
    def child(talk: Talk) -> None:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(os.fspath(path))
            path.chmod(0o666)
            sock.listen()
            talk.say("listens")
            talk.hear()

    with worker(child, talk=True) as other:
        other.hear()
        yield
        other.say("enough")
        other.result()


def find_despite_strangers(_: Path) -> str:
    with pytest.raises(BrokerError, match=f"belongs to uid {NOBODY}"):
        AddressLock(socket_path("mine"))
    with pytest.raises(BrokerUnavailable, match=f"served by uid {NOBODY}, .*not trusted"):
        ask("other", "status")
    with worker_client.connect("other") as client, pytest.raises(BrokerError, match="not trusted"):
        client.models()
    with worker_client.connect("open") as client:
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)
        return client.address


def test_a_released_address_can_be_forgotten(place: Path) -> None:
    """A child that is forked after the broker's end has nothing left to close."""
    address_lock = AddressLock(place / "b.sock")
    address_lock.release()
    address_lock.after_fork_in_child()
    address_lock.after_fork_in_child()
