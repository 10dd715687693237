"""Where a broker is found, for broker, workers and command line alike."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from worker_client.wire import address as address_module
from worker_client.wire.address import name_prefix, runtime_directory, socket_path, unavailable
from worker_client.wire.errors import BrokerError, BrokerUnavailable


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """XDG_RUNTIME_DIR of a length that leaves room for names, and no $BROKER_ADDRESS."""
    directory = Path("/tmp/x") if len(str(tmp_path)) > 50 else tmp_path
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    monkeypatch.setattr(os.path, "isdir", lambda path: path == str(directory))
    monkeypatch.setattr(address_module, "_SYSTEM", Path("/no/such/run/onesession"))
    for variable in ("BROKER_ADDRESS", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(variable, raising=False)
    return directory


def test_a_name_is_a_socket_in_the_runtime_directory(runtime: Path):
    """NAME stands for $XDG_RUNTIME_DIR/onesession/NAME.sock."""
    assert socket_path("digits") == runtime / "onesession" / "digits.sock"


@pytest.mark.parametrize("address", [None, ""])
def test_no_address_is_the_default(runtime: Path, address: str | None):
    """Without an address and without $BROKER_ADDRESS it is the broker called default."""
    assert socket_path(address) == runtime / "onesession" / "default.sock"


@pytest.mark.parametrize("value", ["other", "/run/other.sock"])
def test_the_environment_stands_in_for_no_address(value: str, monkeypatch: pytest.MonkeyPatch):
    """$BROKER_ADDRESS, a name or a path, is used where none is given."""
    monkeypatch.setenv("BROKER_ADDRESS", value)
    assert socket_path() == socket_path(value)


def test_an_address_in_hand_beats_the_environment(runtime: Path, monkeypatch: pytest.MonkeyPatch):
    """An explicit address is used whatever $BROKER_ADDRESS says."""
    monkeypatch.setenv("BROKER_ADDRESS", "other")
    assert socket_path("digits") == runtime / "onesession" / "digits.sock"


def test_an_empty_variable_is_no_address(runtime: Path, monkeypatch: pytest.MonkeyPatch):
    """BROKER_ADDRESS= counts as not set."""
    monkeypatch.setenv("BROKER_ADDRESS", "")
    assert socket_path() == runtime / "onesession" / "default.sock"


@pytest.mark.parametrize("address", ["/run/digits.sock", Path("/run/digits.sock")])
def test_a_path_is_the_socket_itself(address: str | Path):
    """Anything with a slash, str or Path, is taken as it is."""
    assert socket_path(address) == Path("/run/digits.sock")


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A relative path means the same socket after the process has changed its directory."""
    monkeypatch.chdir("/tmp")
    path = socket_path("./digits.sock")
    assert path == Path("/tmp/digits.sock")
    assert socket_path(path) == path


@pytest.mark.parametrize("name", ["a", "A9", "0", "digits-2.old_one", "x" * 40])
def test_good_names(runtime: Path, name: str):
    """Letters, digits, dot, underscore and hyphen make a name."""
    assert socket_path(name).name == f"{name}.sock"


@pytest.mark.parametrize("name", [".", "..", ".hidden", "-n", "_x", "a b", "a\n", "ü", "a:1", "~", "x" * 65])
def test_bad_names(name: str):
    """What is neither a name nor a path is refused, with the rule."""
    with pytest.raises(
        BrokerError, match=r"is not a broker address: give a name \(letters, digits, . _ -\) or the path"
    ):
        socket_path(name)


@pytest.mark.parametrize(
    "url", ["unix:/run/b.sock", "unix:///run/b.sock", "http://localhost:8000/", "file:/b.sock"]
)
def test_a_url_is_not_taken_for_a_path(url: str):
    """gunicorn, nginx and Docker write `unix:PATH`; as a relative path it would name a socket that never exists."""
    with pytest.raises(
        BrokerError, match=r"is a URL; a broker's address is its name or the path of its socket: '/"
    ):
        socket_path(url)


def test_a_null_byte():
    with pytest.raises(BrokerError, match="has a null byte"):
        socket_path("/run/a\0b")


def test_the_users_home(monkeypatch: pytest.MonkeyPatch):
    """A file has no shell that expands it."""
    monkeypatch.setenv("HOME", "/home/u")
    assert socket_path("~/b.sock") == Path("/home/u/b.sock")
    assert socket_path("~nobody-of-that-name/b.sock") == Path("~nobody-of-that-name/b.sock").absolute()


def test_the_longest_path():
    """A path that the kernel takes is taken, one byte more is refused, measured as the file system stores it."""
    assert socket_path("/" + "x" * 106)
    for path in ("/" + "x" * 107, "/" + "ü" * 54):
        with pytest.raises(BrokerError, match="is longer than 107 bytes; choose a shorter directory"):
            socket_path(path)


def test_the_longest_path_is_the_kernels():
    """A socket can be bound at a path of the longest length, and at none that is longer."""
    with tempfile.TemporaryDirectory() as place, socket.socket(socket.AF_UNIX) as sock:
        longest = f"{place}/{'x' * (106 - len(place))}"
        assert socket_path(longest) == Path(longest)
        with pytest.raises(OSError, match="too long"):
            sock.bind(longest + "x")
        sock.bind(longest)


@pytest.mark.parametrize("value", [None, "", "/nowhere", "relative"])
def test_without_a_runtime_directory(value: str | None, monkeypatch: pytest.MonkeyPatch):
    """Where XDG_RUNTIME_DIR is unset, missing or not absolute, it is a directory of this user's own in /tmp."""
    monkeypatch.setattr(os.path, "isdir", lambda path: path == "relative")
    if value is None:
        monkeypatch.delenv("XDG_RUNTIME_DIR")
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    assert runtime_directory() == Path(f"/tmp/onesession-{os.geteuid()}")


@pytest.mark.parametrize(
    ("value", "directory"),
    [
        ("/run/onesession", "/run/onesession"),
        ("/run/gunicorn:/run/onesession", "/run/onesession"),
        ("/run/user/1000/onesession", "/run/user/1000/onesession"),
        ("/run/gunicorn", None),
        ("onesession", None),
        ("", None),
    ],
)
def test_the_runtime_directory_of_a_unit(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, value: str, directory: str | None
):
    """systemd's RuntimeDirectory=onesession goes first; that of another service is none of ours."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", value)
    assert runtime_directory() == (Path(directory) if directory else runtime / "onesession")


@pytest.mark.parametrize(("own", "exists"), [(True, True), (False, True), (False, False)])
def test_a_service_serves_in_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool, exists: bool):
    """Without a login session it is /run/onesession, if that is the user's own; not because he may enter it."""
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    system = tmp_path / "onesession"
    monkeypatch.setattr(address_module, "_SYSTEM", system)
    if exists:
        system.mkdir()
    uid = (os.getuid() or 1000) + (not own)
    if exists and own and os.getuid() == 0:
        os.chown(system, uid, -1)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert runtime_directory() == (system if own else Path(f"/tmp/onesession-{uid}"))


def test_root_serves_in_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where it makes the directory, if it is not there."""
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr(address_module, "_SYSTEM", tmp_path / "onesession")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert runtime_directory() == tmp_path / "onesession"


def test_the_prefix_of_ipc_names():
    """Names of one broker's memory share a prefix that is short, portable and no other broker's."""
    one, other = name_prefix(Path("/run/a.sock")), name_prefix(Path("/run/b.sock"))
    assert one == name_prefix(Path("/run/a.sock"))
    assert one.startswith("/onesession.")
    assert one.endswith(".")
    assert one.count("/") == 1
    assert len(one) < 40
    assert not one.startswith(other)


def test_unavailable_says_how_to_start_one():
    """The error names the address, the reason, both ways to start a broker, and the variable."""
    error = unavailable(Path("/run/a.sock"), "Connection refused")
    assert isinstance(error, BrokerUnavailable)
    for part in (
        "no broker answers at /run/a.sock (Connection refused)",
        "`onesession serve --model NAME=PATH`",
        "`onesession run --model NAME=PATH -- COMMAND`",
        "BROKER_ADDRESS",
    ):
        assert part in str(error)
