"""What becomes of a broker's start, for who waits for it outside: by the lock beside its socket, and the note in that.

Whoever waits opens the lock's file, and makes it if it is not there yet. A broker then takes that same file, so that
its last note can be read when it has failed and removed the file, however short its life was.
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

_SILENT = "its process ended before it had loaded its models, and said no word; see its log"


class AwaitedStart:
    """`close` it when nobody waits any more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = locks.of_socket(path)
        self._fd = -1
        self._before = ""
        self._open()

    def __repr__(self) -> str:
        return f"<AwaitedStart of {self.path}>"

    def why_failed(self) -> str:
        """Why a start that has begun since the last look, or before, has failed; "" while none has."""
        if self._fd < 0:
            self._open()
            return ""
        text = self._text()  # before the look at who holds it: nobody does before he has noted something
        current = locks.is_current(self._fd, self._lock)
        if current and (text == self._before or is_held(self._lock)):
            return ""
        if not current:
            self._reopen()
        failed = locks.failure_in(text)
        if failed or is_held(locks.of_names(self.path)):  # a cleaner has removed the file of one that lives
            return failed
        return _SILENT if text != self._before and locks.is_loading(text) else ""

    def close(self) -> None:
        """Remove the file, too, if no broker has taken it."""
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
        """Only where no other user's broker could come, who could not open a file of ours."""
        try:
            check_directory(self.path.parent)
            found = self.path.parent.stat()
        except (BrokerError, OSError):
            return False
        return found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o022

    def _text(self) -> str:
        return os.pread(self._fd, locks.NOTE_BYTES, 0).decode("utf-8", "replace")
