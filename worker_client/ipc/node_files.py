"""The files of a node broker, beside its socket, and the lock that says that it is being started or is ending.

    node-DIGEST.sock            as of any broker, with its .sock.lock
    node-DIGEST.start           under flock(2) while somebody starts it, or it ends; what is noted in it is below
    node-DIGEST.toml            what it serves: the file of `broker serve --config`
    node-DIGEST.log             its stderr, unless its log is elsewhere

The lock goes from whoever starts a broker to the broker's own process, by inheritance, and that lets it go once it is
ready. So no starter's death lets a second one start, and the kernel gives it back when the broker's process dies, too.
What the next holder finds noted then says what became of the start:

    nothing      it was ready once, or nobody has started it
    starting     its process has died before it was ready
    failed       the same, and the reason was found already
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

from worker_client.system import fork
from worker_client.system.held import is_held, open_lock
from worker_client.wire.address import runtime_directory
from worker_client.wire.errors import BrokerError

_SOCKET = re.compile(r"node-[0-9a-f]{16}\.sock")
LOCK_FD = 3
"""Under which number a broker's process inherits the lock."""
_NOTE_BYTES = 4096
_LONGEST_ERROR = 3000


def directory() -> Path:
    """The runtime directory, unless another user's broker lets us in there without letting us write."""
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
    """Whether somebody can be connected to there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:  # so many connect that they do not fit; or what the next who connects is told
            pass
    return True


@dataclass(frozen=True, slots=True)
class StartRecord:
    """Of a start. `at` is the machine's monotonic clock in seconds; `log_at` where in the log this start begins."""

    log: str = ""
    log_at: int = 0
    at: float = 0.0
    starts: int = 0
    error: str = ""


class StartLock:
    """Held. `release` gives it back for all who have inherited it, `close` leaves it to them."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        fork.register(self, StartLock.close)

    @classmethod
    def take(cls, path: Path) -> StartLock | None:
        """Of the broker whose socket is at `path`. None if somebody has it. Raises BrokerError."""
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
            held.close()  # whoever held it has removed the file meanwhile

    @staticmethod
    def peek(path: Path) -> StartRecord | None:
        """What is noted there, read without the lock."""
        try:
            return _parse(of_start(path).read_bytes())
        except OSError:
            return None

    @staticmethod
    def is_held(path: Path) -> bool:
        """By whoever starts the broker, or the broker that ends."""
        return is_held(of_start(path))

    def read(self) -> StartRecord | None:
        return _parse(os.pread(self.fd, _NOTE_BYTES, 0))

    def write(self, note: StartRecord, path: Path) -> None:
        """Raises BrokerError where there is no room for it."""
        text = json.dumps({**asdict(note), "error": note.error[:_LONGEST_ERROR]})
        try:
            os.pwrite(self.fd, text.encode()[:_NOTE_BYTES].ljust(_NOTE_BYTES), 0)
        except OSError as error:
            raise cannot_be_written(of_start(path), error) from None

    def forget_start(self) -> None:
        """Leave no note. Raises OSError."""
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
    """The same under a number that nothing in a process which we start is to have; `fd` itself is closed then."""
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
