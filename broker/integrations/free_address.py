"""Which address the broker of a server gets: that of its name, or the first one beside it that is free.

    NAME.sock               unless it is taken
    NAME-2.sock, ...        beside another app's broker, or beside the old arbiter during an upgrade

An address is chosen when the server's configuration is read, and the broker takes it later: two servers that start at
the same time would choose the same one. So the choice is claimed at once, by an abstract socket (unix(7)) that only
binds a name. It has no file, forks inherit it, programs that are executed do not. Thus a claim lasts as long as any
process of the server: workers that outlive their arbiter never meet another app's broker at the address that they know.
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
    """An address that no other server has, from now until `release` in all processes that have it."""

    def __init__(self, wanted: Path) -> None:
        """Raises BrokerError where none is free."""
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
    """None if somebody has it. Another user can take it, too, which costs no more than the name without a number."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.bind(f"\0{name_prefix(path).strip('/')}server")
        except OSError:
            return None
        return Descriptor(sock.detach())


def _is_served(path: Path) -> bool:
    """By a broker of whichever kind, also of another container, or by one that is on its way to its socket."""
    return locks.holder(path) is not None or listens(path)
