"""Asks a running broker one question on its control plane, without attaching."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from broker.control_plane.address_lock import CHECK_SECONDS
from broker.control_plane.locks import holder, note_at
from worker_client.wire import control
from worker_client.wire.address import first_served, places, unreachable
from worker_client.wire.errors import BrokerUnavailable
from worker_client.wire.layout import PROTOCOL

_TIMEOUT = 10.0


def ask(address: str | None, op: str, timeout: float | None = _TIMEOUT, **fields: Any) -> control.Message:
    """The broker's reply to `op` ("status", "models" or "reload"), which may take `timeout` seconds.

    Raises BrokerUnavailable, also while the broker loads, and the error that the broker answers with.
    """
    path = first_served(places(address))
    decoder = control.Decoder()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(os.fspath(path))
            _check_trusted(path, sock)
            _check_ready(path)
            control.send(sock, {"op": "hello", "protocol": PROTOCOL, "id": 1})
            _receive(sock, decoder)
            control.send(sock, {"op": op, "id": 2, **fields})
            return _receive(sock, decoder)
        except FileNotFoundError as error:
            raise _removed(path) or unreachable(path, error) from None
        except OSError as error:
            raise unreachable(path, error) from None


def _check_trusted(path: Path, sock: socket.socket) -> None:
    """Check the broker's user as workers do: in a directory that others may write to, any user can be the first to
    listen. Root may ask every broker."""
    _pid, uid = control.peer_of(sock)
    if os.geteuid() != 0 and uid not in (0, os.geteuid()):
        raise BrokerUnavailable(
            f"{path} is served by uid {uid}, which is neither yours nor root's and is not trusted"
        )


def _removed(path: Path) -> BrokerUnavailable | None:
    """The error for a live broker whose socket is gone; None otherwise."""
    pid = holder(path)
    if pid is None:
        return None
    return BrokerUnavailable(
        f"the broker at {path} is alive (pid {pid}), but its socket was removed, so no worker can attach; "
        f"the broker creates it again in about {CHECK_SECONDS:g} s"
    )


def _check_ready(path: Path) -> None:
    """Raise BrokerUnavailable while the broker loads: it listens from the beginning, but would answer only after
    that."""
    note = note_at(path)
    if note is not None and note.loading:
        who = (
            "is about to be started" if note.pid is None else f"(pid {note.pid}) is still loading its models"
        )
        raise BrokerUnavailable(f"the broker at {path} {who}")


def _receive(sock: socket.socket, decoder: control.Decoder) -> control.Message:
    while (item := decoder.next_message()) is None:
        if not decoder.receive(sock):
            raise ConnectionError("the broker closed the connection")
    return control.raise_if_error(item[0])
