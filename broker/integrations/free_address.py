"""Chooses the address of a server's broker: the address of its name, or the first free one beside it.

    NAME.sock               unless it is taken
    NAME-2.sock, ...        beside another app's broker, or beside the old arbiter during an upgrade

An address is chosen when the server's configuration is read, and the broker takes it later: two servers that start at
the same time would choose the same one. So the choice is claimed immediately, by an abstract socket (unix(7)) that only
binds a name. It has no file; forks inherit it, executed programs do not. Thus a claim lasts as long as any process of
the server: workers that outlive their arbiter never find another app's broker at the address that they know.
"""

from __future__ import annotations

import socket
from pathlib import Path

from broker.control_plane import locks
from worker_client.ipc.node_files import listens
from worker_client.system.descriptor import Descriptor
from worker_client.wire.address import name_prefix
from worker_client.wire.errors import BrokerError

_MOST = 1000


class FreeAddress:
    """An address that no other server has, until all processes that have the claim `release` it."""

    def __init__(self, wanted: Path) -> None:
        """Claim an address. Raises BrokerError if none is free."""
        for path in _candidates(wanted):
            claim = _claim(path)
            if claim is None:
                continue
            if not _is_served(path):
                self.path, self._claim = path, claim
                return
            claim.close()
        raise BrokerError(f"{wanted} and {_MOST - 1} addresses beside it are taken: choose another name")

    def __repr__(self) -> str:
        return f"<FreeAddress {self.path}>"

    def release(self) -> None:
        self._claim.close()


def _candidates(wanted: Path) -> list[Path]:
    beside = [wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}") for number in range(2, _MOST + 1)]
    return [wanted, *beside]


def _claim(path: Path) -> Descriptor | None:
    """Claim an address; None if another process has it. Another user can also claim it, which only costs the unnumbered
    name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.bind(f"\0{name_prefix(path).strip('/')}server")
        except OSError:
            return None
        return Descriptor(sock.detach())


def _is_served(path: Path) -> bool:
    """Whether any broker has the address, also one in another container, or one that has not created its socket yet."""
    return locks.holder(path) is not None or listens(path)
