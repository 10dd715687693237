"""Connecting to a broker's socket, and the errors of that."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from worker_client.attachment.retry_policy import BrokerLost, NoReply, NotListening
from worker_client.interpreter import fork
from worker_client.ipc import own_broker
from worker_client.system import limits
from worker_client.system.clock import monotonic_ns
from worker_client.system.descriptor import OwnSocket, close_left
from worker_client.wire import control
from worker_client.wire.address import unreachable
from worker_client.wire.errors import BrokerError, BrokerUnavailable

BACKLOG_PAUSE = 0.005  # seconds, while the broker cannot take another connection or message
CLOSED = "this program closed a descriptor"


T = TypeVar("T")


def connected(path: Path, timeout: float | None, make: Callable[[OwnSocket], T]) -> T:
    """What `make` makes of a socket that is connected to the broker at `path`. Raises NotListening if no process
    listens, NoReply if the connection is not accepted in time, BrokerError if the process that listens must not be
    trusted."""
    close_left()
    try:
        own = OwnSocket(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    except OSError as error:
        raise _no_socket(path, error) from None
    fork.register(own, OwnSocket.close)  # the process may fork before there is a link
    sock = own.sock
    try:
        sock.settimeout(timeout)
        _connect(sock, path)
        sock.settimeout(None)
        _pid, uid = control.peer_of(sock)
        if uid not in (os.geteuid(), 0):
            raise BrokerError(
                f"{path} is served by uid {uid}, which is neither yours nor root's and is not trusted"
            )
        return make(own)
    except OSError as error:
        own.close()
        raise _failure(path, error, timeout) from None
    except BaseException:
        own.close()
        raise


def _failure(path: Path, error: OSError, timeout: float | None) -> BrokerError:
    """The error for a connection that could not be made within `timeout` seconds."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return _no_socket(path, error)
    if error.errno in (errno.EBADF, errno.ENOTSOCK):
        return BrokerLost(f"{CLOSED} on its way to the broker at {path}")
    if isinstance(error, (TimeoutError, BlockingIOError)):
        return no_answer(path, "connect", timeout)
    if not isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
        return unreachable(path, error)
    if own_broker.is_not_started(path):
        return NotListening(
            f"the Broker of this program at {path} is not started: call its start(), or use it in a `with` block"
        )
    return NotListening(str(unreachable(path, error)))


def no_answer(path: Path, op: str, timeout: float | None) -> NoReply:
    return NoReply(f"the broker at {path} did not answer {op!r} within {timeout or 0:.3g} s")


def _no_socket(path: Path, error: OSError) -> BrokerError:
    what = f"a connection to the broker at {path}"
    return limits.overloaded_by(error, 0, what) or BrokerUnavailable(
        f"{what} cannot be made: {error.strerror}"
    )


def _connect(sock: socket.socket, path: Path) -> None:
    """Connect within the socket's timeout. A full backlog refuses at once, if more workers connect at a time than
    fit."""
    limit = monotonic_ns() + int((sock.gettimeout() or 0) * 1e9)
    while True:
        try:
            sock.connect(os.fspath(path))
            return
        except BlockingIOError:
            if monotonic_ns() >= limit:
                raise
            time.sleep(BACKLOG_PAUSE)
