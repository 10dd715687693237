"""How to find a broker: one rule for broker, workers and command line.

An address with a slash is the path of the socket itself. A name such as `default` stands for NAME.sock in the first of

    $RUNTIME_DIRECTORY             set by systemd for a unit with RuntimeDirectory=onesession
    $XDG_RUNTIME_DIR/onesession    for a user's login session
    /run/onesession                for services of root, or of the user who owns it
    /tmp/onesession-UID            if none of these exists

A broker serves there. A client for which only the last directory remains also looks for a broker of root that lets it
in. Which directory belongs to which user does not depend on modes that others may change, so a broker of root never
takes over the names of another user's brokers.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from pathlib import Path

from worker_client.wire.errors import BrokerUnavailable, InvalidInput

VARIABLE = "BROKER_ADDRESS"
DEFAULT = "default"
INLINE = "inline:"
"""How an address begins that stands for models in the app's own process (`worker_client.testing`)."""
_FOLDER = "onesession"
_SYSTEM = Path("/run", _FOLDER)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?://)?(/.*)")
_LONGEST_PATH = 107  # sun_path holds 108 bytes, the last of them a zero


def runtime_directory() -> Path:
    """The directory in which this user's brokers serve by name. The broker checks that it exists and is safe."""
    # A web server's unit may have another RuntimeDirectory, which holds no broker.
    for entry in os.environ.get("RUNTIME_DIRECTORY", "").split(":"):
        if os.path.isabs(entry) and os.path.basename(entry) == _FOLDER:
            return Path(entry)
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.path.isabs(base) and os.path.isdir(base):
        return Path(base, _FOLDER)
    if os.geteuid() == 0:
        there = os.access(_SYSTEM, os.X_OK) or os.access(_SYSTEM.parent, os.W_OK)
    else:
        there = _belongs_to(_SYSTEM, os.geteuid())
    return _SYSTEM if there else _of_user()


def is_system(directory: Path) -> bool:
    """Whether it is root's directory for services."""
    return directory == _SYSTEM and os.geteuid() == 0


def _of_user() -> Path:
    return Path("/tmp", f"{_FOLDER}-{os.geteuid()}")


def _belongs_to(path: Path, uid: int) -> bool:
    try:
        return path.lstat().st_uid == uid
    except OSError:
        return False


def places(address: str | os.PathLike[str] | None = None) -> tuple[Path, ...]:
    """The paths at which the broker at `address` may be: `socket_path`, and for a name perhaps the same name in root's
    directory. Raises InvalidInput."""
    path = socket_path(address)
    is_name = "/" not in os.fspath(address or os.environ.get(VARIABLE) or DEFAULT)
    return (path, _SYSTEM / path.name) if is_name and path.parent == _of_user() else (path,)


def first_served(places: tuple[Path, ...]) -> Path:
    """The first path with a socket that this user may use, in a directory of this user, or of root. If there is none,
    the first path: another user may have created the directory that would be ours."""
    return next((path for path in places if len(places) > 1 and _is_for_us(path)), places[0])


def _is_for_us(path: Path) -> bool:
    owner = os.geteuid() if path.parent == _of_user() else 0
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False
    return is_socket and _belongs_to(path.parent, owner) and os.access(path, os.W_OK)


def socket_path(address: str | os.PathLike[str] | None = None) -> Path:
    """The path of the socket of the broker at `address`: a name, a path, or None for $BROKER_ADDRESS, else "default".
    Raises InvalidInput."""
    given: object = address or os.environ.get(VARIABLE) or DEFAULT
    text = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(text, str):
        raise InvalidInput(
            f'a broker address must be a name such as "default" or the path of a socket, got {text!r}'
        )
    if text.startswith(INLINE):
        raise InvalidInput(
            f"{text!r} stands for models in the process of an app that calls them, where no broker is; give the name "
            "or socket path of a broker"
        )
    if url := _URL.fullmatch(text):
        raise InvalidInput(
            f"{text!r} is a URL; a broker's address is its name or the path of its socket: {url[1]!r}?"
        )
    if "\0" in text:
        raise InvalidInput(f"{text!r} is not a broker address: it has a null byte")
    if "/" in text:
        path = _absolute(text)
    elif _NAME.fullmatch(text):
        path = runtime_directory() / f"{text}.sock"
    else:
        raise InvalidInput(
            f"{text!r} is not a broker address: give a name (letters, digits, . _ -) or the path of a socket"
        )
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise InvalidInput(
            f"socket path {path} is longer than {_LONGEST_PATH} bytes; choose a shorter directory"
        )
    return path


def _absolute(text: str) -> Path:
    try:
        return Path(os.path.expanduser(text)).absolute()
    except FileNotFoundError:
        raise InvalidInput(
            f"{text!r} is a relative path, and this process's working directory has been removed: give the whole path"
        ) from None


def name_prefix(path: Path) -> str:
    """The start of every IPC name of the broker at this socket; no other broker's names start with it."""
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    return f"/onesession.{digest}."


def unavailable(path: Path, why: str) -> BrokerUnavailable:
    """The error for a broker that does not answer: which one, why, and how to start one."""
    return BrokerUnavailable(
        f"no broker answers at {path} ({why}). Start one with `onesession serve --model NAME=PATH`, run your server "
        f"under `onesession run --model NAME=PATH -- COMMAND`, or point {VARIABLE} at the right one"
    )


def unreachable(path: Path, error: OSError) -> BrokerUnavailable:
    """The error for a socket that cannot be connected to; finds out the reason."""
    return unavailable(path, _obstacle(path, error) or error.strerror or str(error))


def _obstacle(path: Path, error: OSError) -> str:
    """The reason that the bare error does not tell; empty if unknown."""
    if error.errno == errno.ENOENT:
        return "there is no such socket" if path.parent.is_dir() else f"there is no directory {path.parent}"
    if error.errno == errno.ENOTDIR:
        return f"{path.parent} is not a directory"
    if error.errno == errno.EACCES:
        return _forbidden(path)
    if error.errno == errno.ECONNREFUSED:
        try:
            is_socket = stat.S_ISSOCK(path.stat().st_mode)
        except OSError:
            return "the socket was just removed"
        return "its broker died without cleaning up" if is_socket else "that is a file, not a socket"
    return ""


def _forbidden(path: Path) -> str:
    uid = os.geteuid()
    for place in (path, path.parent):
        try:
            found = place.stat()
        except OSError:  # the directory above denies access
            continue
        mode = stat.S_IMODE(found.st_mode)
        return (
            f"uid {uid} may not use {place}, which belongs to uid {found.st_uid}, mode {mode:04o}; "
            "run broker and workers as one user, or the broker as root with --allow-uid or --allow-gid"
        )
    return f"uid {uid} may not look into {path.parent.parent}"
