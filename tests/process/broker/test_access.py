"""Which users' workers may attach. Needs root, which can become any user."""

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
from broker.config.settings import Settings
from broker.control_plane import locks
from broker.control_plane.address_lock import AddressLock
from broker.models.spec import ModelSpec
from broker.server.server import Server
from broker.sharing.access import Access
from tests.brokers import SHM, TestBroker, folder, serving
from tests.process.models import sources
from tests.workers import Talk, worker
from worker_client import BrokerError
from worker_client.wire.address import name_prefix, socket_path
from worker_client.wire.control import encode
from worker_client.wire.layout import PROTOCOL

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

ROW = np.ones((1, 4), np.float32)
LARGE = np.ones((4000, 4), np.float32)
NOBODY, STRANGER, GROUP = 65534, 54321, 54322


def as_user(uid: int, gid: int, groups: list[int], address: str) -> str:
    """What becomes of calls by a worker of this user: of all kinds, so that everything it opens is opened."""
    os.setgroups(groups)
    os.setgid(gid)
    os.setuid(uid)
    try:
        with worker_client.connect(address, timeout=30) as client:
            model = client.model("double")
            np.testing.assert_array_equal(model.predict(ROW), 2 * ROW)
            np.testing.assert_array_equal(model.predict(LARGE), 2 * LARGE)
            futures = [model.submit(ROW) for _ in range(40)]
            for future in futures:
                np.testing.assert_array_equal(future.result(30), 2 * ROW)
    except BrokerError as error:
        return f"{type(error).__name__}: {error}"
    return "answered"


def outcome(broker: TestBroker, uid: int, gid: int, groups: list[int] | None = None) -> str:
    Path(broker.address).parent.chmod(0o711)
    with worker(as_user, uid, gid, groups or [], broker.address) as child:
        result: str = child.result()
        return result


def test_strangers_are_refused() -> None:
    """By default a broker serves only its own user and root."""
    with serving("double") as broker:
        assert "answered" not in outcome(broker, NOBODY, NOBODY)
        assert outcome(broker, 0, 0) == "answered"


@pytest.mark.parametrize(
    ("options", "user"),
    [
        ({"allow_uid": (NOBODY,)}, (NOBODY, STRANGER, [])),
        ({"allow_uid": (NOBODY, 54000)}, (NOBODY, STRANGER, [])),
        ({"allow_gid": (GROUP,)}, (NOBODY, GROUP, [])),
        ({"allow_gid": (GROUP,)}, (NOBODY, STRANGER, [GROUP])),
        ({"allow_uid": (54000,), "allow_gid": (GROUP,)}, (NOBODY, STRANGER, [GROUP])),
    ],
)
def test_who_is_allowed_is_served(
    options: dict[str, tuple[int, ...]], user: tuple[int, int, list[int]]
) -> None:
    """Workers allowed by user, by first group or by another of their groups are served, and still no others."""
    with serving("double", **options) as broker:
        assert outcome(broker, *user) == "answered"
        assert "answered" not in outcome(broker, STRANGER, STRANGER)


def hello(uid: int, address: str) -> object:
    """Whether the broker answers a hello of this user, who needs no semaphore for it."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(address)
        with contextlib.suppress(ConnectionError):
            sock.sendall(encode({"op": "hello", "protocol": PROTOCOL, "id": 1}))
            return bool(sock.recv(1000))
    return False


def test_the_broker_checks_who_connects() -> None:
    """With several allowed users everybody can open the socket. A stranger gets no answer there."""
    with serving("double", allow_uid=(NOBODY,), allow_gid=(GROUP,)) as broker:
        Path(broker.address).parent.chmod(0o711)
        for uid, answered in ((STRANGER, False), (NOBODY, True)):
            with worker(hello, uid, broker.address) as child:
                assert child.result() is answered


def test_a_worker_does_not_trust_a_strangers_broker(tmp_path: Path) -> None:
    """A stranger who listens at the broker's address does not receive a single byte."""
    with worker(listen, tmp_path, talk=True) as child:
        assert child.hear() == "listens"
        with (
            worker_client.connect(tmp_path / "b.sock", timeout=30) as client,
            pytest.raises(BrokerError, match=rf"served by uid {STRANGER}, .*not trusted"),
        ):
            client.models()
        child.say("enough")
        assert child.result() == b""


def listen(talk: Talk, place: Path) -> bytes:
    """As a stranger, listen at an address; returns what the first client has sent."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(place / "b.sock"))
        os.setgid(STRANGER)
        os.setuid(STRANGER)
        listener.listen()
        talk.say("listens")
        talk.hear()
        with listener.accept()[0] as sock:
            return sock.recv(1000)


def test_files_are_the_users_own() -> None:
    """Without allowances nobody else can reach the socket or open a semaphore."""
    with serving("double") as broker, worker_client.connect(broker.address) as client:
        client.model("double").predict(ROW)
        modes = [
            path.stat().st_mode & 0o777 for path in Path("/dev/shm").iterdir() if path.name in broker.names()
        ]
        assert modes
        assert set(modes) == {0o600}
        assert Path(broker.address).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"allow_uid": (NOBODY,)},
        {"allow_gid": (GROUP,)},
        {"allow_uid": (NOBODY, 54000), "allow_gid": (GROUP, 54001)},
    ],
)
def test_a_stranger_cannot_cut_off_the_doorbell(options: dict[str, tuple[int, ...]]) -> None:
    """A stranger cannot even open the doorbell: a process that may write the file could end broker and workers by
    truncate(2)."""
    with serving("double", **options) as broker:
        (doorbell,) = (SHM / name for name in broker.names() if name.startswith("sem."))
        with worker(cut_off, STRANGER, doorbell) as child:
            assert child.result() == "PermissionError"
        assert doorbell.stat().st_size
        assert not doorbell.stat().st_mode & 0o007
        assert outcome(broker, 0, 0) == "answered"


def test_no_link_is_followed_to_open_a_path(tmp_path: Path) -> None:
    """A user who may write the socket's directory cannot make root change the mode of another file."""
    (secret := tmp_path / "secret").touch(0o600)
    path = tmp_path / "b.sock"
    path.symlink_to(secret)
    with pytest.raises(BrokerError, match=r"b\.sock was replaced by another program"):
        Access(uids=(NOBODY,)).open_path(path, False)
    path.unlink()
    os.link(secret, path)
    with pytest.raises(BrokerError, match="replaced"):
        Access(uids=(NOBODY,)).open_path(path, False)
    assert secret.stat().st_mode & 0o777 == 0o600


def test_a_strangers_link_is_no_runtime_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that a stranger made in /tmp is not used as a runtime directory; root's own link is followed."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", os.fspath(tmp_path))
    (target := tmp_path / "target").mkdir(0o700)
    (link := tmp_path / "onesession").symlink_to(target)
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(BrokerError, match=f"onesession is a link made by uid {STRANGER}"):
        AddressLock(socket_path("b"))
    assert list(target.iterdir()) == []
    os.chown(link, 0, 0, follow_symlinks=False)
    AddressLock(socket_path("b")).release()


def test_only_the_brokers_user_reloads() -> None:
    """A worker that was let in gets the broker's refusal; root's is served."""
    with serving("double", allow_uid=(NOBODY,)) as broker:
        Path(broker.address).parent.chmod(0o711)
        with worker(reloads, NOBODY, broker.address) as child:
            assert "only the broker's own user can" in child.result()
        with worker(reloads, 0, broker.address) as child:
            assert child.result().startswith("reloaded")


def reloads(uid: int, address: str) -> str:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    with worker_client.connect(address, timeout=30) as client:
        client.model("double").predict(ROW)
        try:
            return f"reloaded {client._connection._link.request({'op': 'reload', 'models': []}, 60)[0]}"
        except BrokerError as error:
            return str(error)


def cut_off(uid: int, path: Path) -> str:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    try:
        os.truncate(path, 0)
    except OSError as error:
        return type(error).__name__
    return "cut off"


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir], ids=["file", "directory"])
def test_a_stranger_cannot_keep_a_broker_from_starting(make: Callable[[Path], None]) -> None:
    """A broker that does not run as root starts and ends normally beside a stranger's files in /dev/shm that have names
    like its own, also after a crash. It does not remove them, because it may not."""
    with folder() as place:
        os.chown(place, NOBODY, NOBODY)
        path = place / "b.sock"
        stem = name_prefix(path).lstrip("/")
        squatted = [SHM / f"{start}{stem}{end}" for start in ("", "sem.") for end in ("x", "1.1", "")]
        squatted.append(locks.of_names(path))
        with contextlib.ExitStack() as stack:
            for each in squatted:
                stack.callback(shutil.rmtree if make is Path.mkdir else Path.unlink, each)
                make(each)
                os.chown(each, STRANGER, STRANGER)
            with worker(starts_twice, NOBODY, path) as child:
                assert child.result() == "answered"
            assert all(each.exists() for each in squatted)


def starts_twice(uid: int, path: Path) -> str:
    """A broker in this process, after one that was killed."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    with worker(serve, path, talk=True) as killed:
        assert killed.hear() == "started"
        os.kill(killed.pid, signal.SIGKILL)
    with in_process(path), worker_client.connect(path) as client:
        np.testing.assert_array_equal(client.model("double").predict(ROW), 2 * ROW)
    return "answered"


@contextlib.contextmanager
def in_process(path: Path) -> Iterator[None]:
    models = tuple(ModelSpec.coerce_all(sources("double")))
    server = Server(Settings(models=models, address=os.fspath(path), tune="off"))
    server.start()
    try:
        yield
    finally:
        server.stop()


def serve(talk: Talk, path: Path) -> None:
    with in_process(path):
        talk.say("started")
        talk.hear()


def test_allowances_need_root() -> None:
    """Another user's broker could not give its semaphores away; it says so."""

    def widen() -> str:
        os.setuid(NOBODY)
        try:
            Access(uids=(STRANGER,))
        except BrokerError as error:
            return str(error)
        return "made"

    with worker(widen) as child:
        assert "allow_uid and allow_gid are for a broker that runs as root" in child.result()
