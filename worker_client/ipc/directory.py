"""Checks the directory of a broker's socket: a user who can write there can replace the broker's socket with
another."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from worker_client.wire.address import VARIABLE, is_system, runtime_directory
from worker_client.wire.errors import BrokerError


def check_directory(directory: Path, ours: bool | None = None) -> None:
    """Check that a directory is safe. If it is `ours`, it is created, and must belong to nobody else; any other must
    exist. Raises BrokerError.

    By default only the runtime directory is ours.
    """
    ours = directory == runtime_directory() if ours is None else ours
    if ours:
        _make(directory)
        _check_link(directory)
    try:
        found = directory.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise BrokerError(
            f"directory {directory} for the broker's socket does not exist; make it first (mkdir -m 700 {directory}), "
            "or give the broker another --name"
        ) from None
    except PermissionError:
        raise BrokerError(
            f"directory {directory} for the broker's socket cannot be reached by uid {os.geteuid()}: a directory above "
            "it may not be entered; give the broker another --name"
        ) from None
    if not stat.S_ISDIR(found.st_mode):
        raise BrokerError(f"the broker's socket should be in {directory}, which is not a directory")
    if ours and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
        raise BrokerError(
            f"{directory} belongs to uid {found.st_uid} (mode {stat.S_IMODE(found.st_mode):04o}), this broker runs as "
            f"uid {os.geteuid()}: the directory must be its own, and nobody else may write there (chmod go-w). Or set "
            f"--name to the path of a socket in another directory, and {VARIABLE} to the same path"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise BrokerError(
            f"directory {directory} for the broker's socket may not be written by uid {os.geteuid()}; it belongs to "
            f"uid {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}"
        )


def _check_link(directory: Path) -> None:
    """Raises BrokerError for a link made by another user, who could choose where the socket goes, and which directory
    is opened to others."""
    with contextlib.suppress(OSError):
        found = directory.lstat()
        if stat.S_ISLNK(found.st_mode) and found.st_uid not in (0, os.geteuid()):
            raise BrokerError(
                f"{directory} is a link made by uid {found.st_uid}, neither this broker's user nor root: remove "
                f"it, or set --name and {VARIABLE} to the path of a socket elsewhere"
            )


def _make(directory: Path) -> None:
    """Create the directory. Other users may pass through root's directory to brokers that let them in, but cannot list
    it."""
    try:
        directory.mkdir(mode=0o700)
        if is_system(directory):
            directory.chmod(0o711)
    except FileExistsError:  # something else is there, which the next check reports
        pass
    except OSError as error:
        raise BrokerError(
            f"directory {directory} for the broker's socket cannot be made ({error.strerror}); make it for uid "
            f"{os.geteuid()}, or set --name and {VARIABLE} to the path of a socket elsewhere"
        ) from None
