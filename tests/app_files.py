"""An app that closes descriptors which are not its own, and the files that it then opens under the free numbers."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Collection
from typing import IO

_COUNT = 16  # of each kind: more than a client has


def numbers() -> set[int]:
    """The numbers of this process's descriptors above 2."""
    return {fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2 and _is_open(fd)}


def close_all(keep: Collection[int] = ()) -> None:
    """Close all descriptors, as a daemon does, except `keep`, which belong to the test."""
    for fd in numbers().difference(keep):
        with contextlib.suppress(OSError):  # a thread may close its own meanwhile
            os.close(fd)


class AppFiles:
    """Files and sockets that got the lowest free numbers. Each socket holds data that the app has not read."""

    def __init__(self) -> None:
        self._files: list[IO[bytes]] = []
        self._sockets: list[tuple[socket.socket, socket.socket]] = []
        for _ in range(_COUNT):
            pair = socket.socketpair()
            pair[0].send(b"for 1")
            pair[1].send(b"for 0")
            self._sockets.append(pair)
            self._files.append(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115 - closed in `check`

    def check(self) -> None:
        """Check that no other code has closed, read or written them. Closes them."""
        for file in self._files:
            assert os.fstat(file.fileno()).st_size == 0, f"{file.fileno()} was written to"
            file.write(b"mine")
            file.close()
        for first, second in self._sockets:
            read = first.recv(99), second.recv(99)
            assert read == (b"for 0", b"for 1"), f"{first}, {second}: {read}"
            first.close()
            second.close()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:  # that of the listing itself
        return False
    return True
