"""A connection to the node's broker: if no broker is at the address, it starts one and waits for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from worker_client.attachment.retry_policy import AttachPolicy, BrokerLost, NoReply, NotListening
from worker_client.calls.channel import Channel
from worker_client.connection import Connection
from worker_client.ipc.waiting import WaitMode
from worker_client.node.starting import start
from worker_client.node.wanted import Wanted
from worker_client.wire.errors import BrokerUnavailable, DeadlineExceeded
from worker_client.wire.layout import NO_DEADLINE

_of_process: dict[Wanted, NodeConnection] = {}


class NodeConnection(Connection):
    """A connection that knows the models and settings, and so can start the broker."""

    def __init__(self, wanted: Wanted, path: Path, mode: WaitMode = WaitMode.ADAPTIVE) -> None:
        super().__init__(path, mode)
        self.wanted = wanted

    def __reduce__(self) -> tuple[Callable[[Wanted], NodeConnection], tuple[Wanted]]:  # type: ignore[override]
        return connection_to, (self.wanted,)

    def channel(
        self, deadline_ns: int = NO_DEADLINE, patient: bool = True, closings: int | None = None
    ) -> Channel:
        channel = self._channel
        if channel is not None and channel.open:
            return channel
        self.locate()
        return super().channel(deadline_ns, patient, closings)

    def locate(self) -> None:
        """Compute the address again unless attached: a model's files may have changed since."""
        channel = self._channel
        if channel is None or not channel.open:
            self.path = self.wanted.path()

    def _attach_policy(self, deadline_ns: int, patient: bool) -> AttachPolicy:
        return NodeAttachPolicy(self.wanted, self.path, deadline_ns)


class NodeAttachPolicy(AttachPolicy):
    """One call's wait for the node's broker: as long as its deadline allows, or until a start has failed."""

    __slots__ = ("_wanted",)

    def __init__(self, wanted: Wanted, path: Path, deadline_ns: int) -> None:
        super().__init__(path, deadline_ns, expected=True)
        self._wanted = wanted

    def pause_s(self, error: BrokerUnavailable, now_ns: int) -> float:
        left_s = (self._deadline_ns - now_ns) / 1e9
        if left_s <= 0 or isinstance(error, NoReply):
            raise DeadlineExceeded(
                f"the call's timeout passed while the broker of this node was being started at {self._path}; "
                f"its log: {self._wanted.log_of(self._path)}"
            ) from None
        if isinstance(error, (NotListening, BrokerLost)):
            start(self._wanted, self._path)
        return min(self._backoff.next_s(), left_s)


def connection_to(wanted: Wanted) -> NodeConnection:
    """The connection of this process, which has one channel for all calls and unpickled handles for the same broker."""
    connection = _of_process.get(wanted)
    if connection is None:
        return _of_process.setdefault(wanted, NodeConnection(wanted, wanted.path()))
    connection.locate()
    return connection
