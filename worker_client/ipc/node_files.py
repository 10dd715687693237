"""The files of a node broker, beside its socket, and the lock that says that it is being started or is ending.

    node-DIGEST.sock            the socket, as for any broker, with its .sock.lock
    node-DIGEST.start           locked with flock(2) while a process starts the broker, or while it ends; see below
    node-DIGEST.toml            its models and settings: the file for `onesession serve --config`
    node-DIGEST.log             its stderr, unless another log file is set

The process that starts a broker passes the lock on to the broker's own process, by inheritance, and the broker releases
it once it is ready. So if the starting process dies, no second broker is started, and if the broker's process dies, the
kernel releases the lock. The record that the next holder finds in the .start file then says how the start ended:

    nothing      the broker was ready once, or was never started
    starting     its process died before it was ready
    failed       the same, and the reason is already known
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

from worker_client.interpreter import fork
from worker_client.system.held import is_held, open_lock
from worker_client.wire.address import runtime_directory
from worker_client.wire.errors import BrokerError

_SOCKET = re.compile(r"node-[0-9a-f]{16}\.sock")
LOCK_FD = 3
"""The descriptor number under which a broker's process inherits the lock."""
_NOTE_BYTES = 4096
_LONGEST_ERROR = 3000


def directory() -> Path:
    """The runtime directory, unless it belongs to another user, whose broker may let us in without letting us write."""
    place, uid = runtime_directory(), os.geteuid()
    try:
        found = place.stat()
    except OSError:
        return place
    theirs = stat.S_ISDIR(found.st_mode) and found.st_uid != uid
    return Path("/tmp", f"onesession-{uid}") if theirs else place


def socket_name(digest: str) -> str:
    return f"node-{digest[:16]}.sock"


def is_node(path: Path) -> bool:
    """Whether a socket's name is that of a node broker."""
    return _SOCKET.fullmatch(path.name) is not None


def of_start(path: Path) -> Path:
    return path.with_suffix(".start")


def of_config(path: Path) -> Path:
    return path.with_suffix(".toml")


def of_log(path: Path) -> Path:
    return path.with_suffix(".log")


def listens(path: Path) -> bool:
    """Whether a process accepts connections at this path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:  # the backlog is full, or another error that the next connect reports
            pass
    return True


@dataclass(frozen=True, slots=True)
class StartRecord:
    """The record of a start. `at` is its time on the monotonic clock in seconds, `log_at` the position in the log at
    which it begins."""

    log: str = ""
    log_at: int = 0
    at: float = 0.0
    starts: int = 0
    error: str = ""


class StartLock:
    """A held start lock. `release` unlocks it for all processes that inherited it; `close` leaves it to them."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        fork.register(self, StartLock.close)

    @classmethod
    def take(cls, path: Path) -> StartLock | None:
        """Take the lock of the broker whose socket is at `path`. None if another process holds it. Raises
        BrokerError."""
        lock = of_start(path)
        while True:
            held = cls(above_standard(_open(lock)))
            try:
                fcntl.flock(held.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(held.fd), os.stat(lock)):
                    return held
            except BlockingIOError:
                held.close()
                return None
            except FileNotFoundError:
                pass
            except BaseException:
                held.close()
                raise
            held.close()  # the previous holder has removed the file meanwhile

    @staticmethod
    def peek(path: Path) -> StartRecord | None:
        """The record in the lock's file, read without taking the lock."""
        try:
            return _parse(of_start(path).read_bytes())
        except OSError:
            return None

    @staticmethod
    def is_held(path: Path) -> bool:
        """Whether the lock is held, by a process that starts the broker or by a broker that ends."""
        return is_held(of_start(path))

    def read(self) -> StartRecord | None:
        return _parse(os.pread(self.fd, _NOTE_BYTES, 0))

    def write(self, note: StartRecord, path: Path) -> None:
        """Write the record. Raises BrokerError if the disk has no room for it."""
        text = json.dumps({**asdict(note), "error": note.error[:_LONGEST_ERROR]})
        try:
            os.pwrite(self.fd, text.encode()[:_NOTE_BYTES].ljust(_NOTE_BYTES), 0)
        except OSError as error:
            raise cannot_be_written(of_start(path), error) from None

    def forget_start(self) -> None:
        """Erase the record. Raises OSError."""
        os.pwrite(self.fd, b" " * _NOTE_BYTES, 0)

    def release(self) -> None:
        if self.fd >= 0:
            fcntl.flock(self.fd, fcntl.LOCK_UN)
        self.close()

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def _parse(text: bytes) -> StartRecord | None:
    try:
        return StartRecord(**json.loads(text))
    except (ValueError, TypeError):
        return None


def above_standard(fd: int) -> int:
    """The same file under a number above those that a process which we start uses; `fd` itself is closed then."""
    if fd > LOCK_FD:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, LOCK_FD + 1)
    finally:
        os.close(fd)


def cannot_be_written(file: Path, error: OSError) -> BrokerError:
    return BrokerError(
        f"{file}, which a node broker needs, cannot be written by uid {os.geteuid()} ({error.strerror}): "
        "make room there, or name another directory with XDG_RUNTIME_DIR"
    )


def _open(lock: Path) -> int:
    try:
        return open_lock(lock)
    except OSError as error:
        raise cannot_be_written(lock, error) from None
