"""Which users' workers may attach: the broker's own user, root, and the users and groups that its settings allow.

A server that is started as root drops its workers' privileges; a broker beside it then runs as root and admits these
workers. They get access to what they open by name: each user to its own workers' semaphores; the allowed users and
groups to the doorbell, which all workers ring, by an access list (acl(5)) if there are several. Nobody else gets
access: a user that may write the file may truncate it, which kills all processes that have it mapped.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from broker.sharing.memory import path_of
from worker_client.ipc.semaphore import Semaphore
from worker_client.wire.errors import BrokerError

_SO_PEERGROUPS = getattr(socket, "SO_PEERGROUPS", 59)
_BUFFER_BYTES = 1024  # the maximum of Python's getsockopt: 256 groups


class Access:
    """The users (`uids`) and groups (`gids`) that are admitted in addition to the broker's own user and root."""

    def __init__(
        self, uids: tuple[int, ...] = (), gids: tuple[int, ...] = (), sessions: bool = False
    ) -> None:
        self.uids = frozenset(uids)
        self.gids = frozenset(gids)
        self.sessions = sessions
        if self.widened and os.geteuid() != 0:
            raise BrokerError(
                "allow_uid and allow_gid are for a broker that runs as root; this one runs as uid "
                f"{os.geteuid()}: "
                "run broker and workers as one user, or the broker as root"
            )

    def __repr__(self) -> str:
        return f"<Access of {os.geteuid()}, uids {sorted(self.uids)}, gids {sorted(self.gids)}>"

    @property
    def widened(self) -> bool:
        """Whether users are allowed that the files' modes would exclude."""
        return bool(self.uids or self.gids)

    def admits(self, sock: socket.socket, uid: int) -> bool:
        if uid in (0, os.geteuid()) or uid in self.uids:
            return True
        return bool(self.gids) and not self.gids.isdisjoint(_groups_of(sock))

    def may_run_sessions(self, uid: int) -> bool:
        """Whether this user may run any tensors of the models' graphs: the broker's own user and root may, others if
        allowed."""
        return self.sessions or uid in (0, os.geteuid())

    def open_path(self, socket_path: Path, own_directory: bool) -> None:
        """Let allowed users reach the socket, where their uid is checked. Our own directory lets them pass, not list
        it."""
        if self.widened:
            _change_mode(socket_path, stat.S_IFSOCK, 0o666)
            if own_directory:
                _change_mode(socket_path.parent, stat.S_IFDIR, 0o711)

    def give_doorbell(self, doorbell: Semaphore) -> None:
        if not self.widened:
            return
        path = path_of(doorbell)
        if len(self.uids) == 1 and not self.gids:
            (uid,) = self.uids
            os.chown(path, uid, -1)
        elif len(self.gids) == 1 and not self.uids:
            (gid,) = self.gids
            os.chown(path, -1, gid)
            path.chmod(0o660)
        else:
            _list(path, self.uids, self.gids)


def give(semaphore: Semaphore, uid: int) -> None:
    """Let a worker of another user open its own semaphore."""
    if uid not in (0, os.geteuid()):
        os.chown(path_of(semaphore), uid, -1)


def _change_mode(path: Path, kind: int, mode: int) -> None:
    """Change the mode without following a link: a user that may write to the directory could replace the path by a link
    to a file of ours."""
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if stat.S_IFMT(found.st_mode) != kind or found.st_uid != os.geteuid():
            raise BrokerError(
                f"{path} was replaced by another program: give the broker a --name in a directory that "
                "only it may "
                "write to"
            )
        os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


_ACL, _ACL_VERSION = "system.posix_acl_access", 2  # linux/posix_acl_xattr.h
_OWNER, _USER, _OWNERS_GROUP, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_READ_AND_WRITE = 0o6


def _list(path: Path, uids: Iterable[int], gids: Iterable[int]) -> None:
    """Let these users and groups read and write the file, in addition to its owner."""
    entries = [
        (_OWNER, _READ_AND_WRITE, _NO_ID),
        *[(_USER, _READ_AND_WRITE, uid) for uid in sorted(uids)],
        (_OWNERS_GROUP, 0, _NO_ID),
        *[(_GROUP, _READ_AND_WRITE, gid) for gid in sorted(gids)],
        (_MASK, _READ_AND_WRITE, _NO_ID),
        (_OTHER, 0, _NO_ID),
    ]
    packed = struct.pack("<I", _ACL_VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, _ACL, packed)
    except OSError as error:
        raise BrokerError(
            f"the file system at {path.parent} supports no access list for several users "
            f"({error.strerror}): give one "
            "--allow-uid, or put the workers' users into one group and give its --allow-gid"
        ) from None


def _groups_of(sock: socket.socket) -> set[int]:
    """The groups of the peer, as the kernel reports them."""
    _pid, _uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _BUFFER_BYTES)
    except OSError:  # more groups than that, or a kernel older than 4.13
        return {gid}
    return {gid, *struct.unpack(f"{len(raw) // 4}I", raw)}
