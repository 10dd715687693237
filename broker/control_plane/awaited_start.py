"""The outcome of a broker's start, for a process that waits for it: read from the lock beside the socket and its note.

The waiting process opens the lock's file, and creates it if it does not exist yet. The broker then locks that same
file, so that its last note can be read even after the broker failed and removed the file, however short its life was.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from broker.control_plane import locks
from worker_client.ipc.directory import check_directory
from worker_client.system.held import is_held, open_lock
from worker_client.wire.errors import BrokerError

_SILENT = "its process ended before it had loaded its models, without giving a reason; see its log"


class AwaitedStart:
    """Follows the start of the broker at one path. Call `close` afterwards."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = locks.of_socket(path)
        self._fd = -1
        self._before = ""
        self._open()

    def __repr__(self) -> str:
        return f"<AwaitedStart of {self.path}>"

    def why_failed(self) -> str:
        """Why a start has failed that began before this call; "" while none has failed."""
        if self._fd < 0:
            self._open()
            return ""
        text = self._text()
        current = locks.is_current(self._fd, self._lock)
        if current and (text == self._before or is_held(self._lock)):
            return ""
        text = self._text()  # again: the holder may have written its last note just before it let go
        if current and is_held(self._lock):  # by the next one, whose note that is
            return ""
        if not current:
            self._reopen()
        failed = locks.failure_in(text)
        if failed or is_held(locks.of_names(self.path)):  # a cleaner has removed the file of a live broker
            return failed
        return _SILENT if text != self._before and locks.is_loading(text) else ""

    def close(self) -> None:
        """Close the file, and remove it if no broker has locked it."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if locks.is_current(fd, self._lock) and not is_held(self._lock):
            with contextlib.suppress(OSError):
                self._lock.unlink()
        os.close(fd)

    def _open(self) -> None:
        with contextlib.suppress(OSError):
            self._fd = open_lock(self._lock) if self._may_make() else os.open(self._lock, os.O_RDONLY)
            self._before = "" if is_held(self._lock) else self._text()

    def _reopen(self) -> None:
        os.close(self._fd)
        self._fd, self._before = -1, ""
        self._open()

    def _may_make(self) -> bool:
        """Only where no broker of another user can start, because it could not open our file."""
        try:
            check_directory(self.path.parent)
            found = self.path.parent.stat()
        except (BrokerError, OSError):
            return False
        return found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o022

    def _text(self) -> str:
        return os.pread(self._fd, locks.NOTE_BYTES, 0).decode("utf-8", "replace")
