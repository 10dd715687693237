"""Handles each message of a worker, and the end of its connection. Called on the control thread only, except where a
method says otherwise.

`observe/telemetry.py` answers messages that only read (`models`, `status`, `stats`, `trace`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from time import time_ns
from typing import Any, TypeGuard

from broker.config.settings import Settings
from broker.control_plane.server import ControlServer, Handler, Peer, Reply
from broker.counters.arrivals import Arrivals
from broker.counters.failures import FOREIGN_ANSWER
from broker.data_plane.channel import Channel
from broker.data_plane.intake import Intake
from broker.models.lifecycle.load_orders import order_of
from broker.models.lifecycle.loader import Loader
from broker.models.lifecycle.repository import Repository
from broker.sharing.access import Access
from broker.sharing.memory import Memory
from worker_client.ipc.event import DuplicatedFd
from worker_client.ipc.semaphore import Semaphore
from worker_client.wire.control import Message, ProtocolError, error_fields
from worker_client.wire.errors import BrokerError

_MAX_NAMES = 1000  # tensors that one call of a session may name


@dataclass(slots=True, eq=False, kw_only=True)
class Handlers:
    """The handlers, with the parts of the broker that they use; `control` is set before its thread runs.

    `lifeline_fd` is -1 where there is none; `retired` tells whether this broker accepts no more workers; `worker_left`
    is called when a worker has left.
    """

    settings: Settings
    access: Access
    repository: Repository
    memory: Memory
    doorbell: Semaphore
    intake: Intake
    loader: Loader
    arrivals: Arrivals
    lifeline_fd: Callable[[], int]
    retired: Callable[[], bool]
    worker_left: Callable[[], None]
    control: ControlServer = field(init=False, repr=False)
    disconnected: bool = False
    """True when the process ends together with its connections: nothing is taken back from the workers."""
    _epoch: int = field(default_factory=time_ns, init=False)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1), init=False)

    def by_op(self) -> dict[str, Handler]:
        return {
            "attach": self._attach,
            "opened": self._opened,
            "slots": self._slots,
            "grow": self._grow,
            "shrink": self._shrink,
            "event": self._event,
            "foreign": self._foreign,
            "lifeline": self._lifeline,
            "reload": self._reload,
            "ad_hoc": self._ad_hoc,
        }

    def on_end(self, session: Peer) -> None:
        if self.disconnected:
            return
        channel, session.channel = session.channel, None  # the channel refers to the peer
        if not any(session.process == each.process for each in self.control.sessions):
            self.repository.release(session.process)
        if channel is not None:
            channel.leave_process()
            self.arrivals.detached += 1
            self.intake.remove(channel)
            self.worker_left()

    def drop(self, channel: Channel) -> None:
        """Close the connection of a worker that broke the rules of its channel. Any thread."""
        for session in list(self.control.sessions):
            if session.channel is channel:
                self.control.drop(session)

    def announce_models(self) -> None:
        """Send the workers the list of served models, so that they need not ask."""
        self.control.announce({"op": "models", "models": self.repository.describe()})

    def _attach(self, session: Peer, message: Message) -> Reply:
        if session.channel is not None:
            raise ProtocolError(f"pid {session.pid} attached twice")
        if self.retired():  # it connected just before the socket was removed
            raise ProtocolError(f"pid {session.pid} connected while this broker was ending")
        channel = self._channel_for(session)
        session.channel = channel
        self.intake.add(channel)
        self.arrivals.attached += 1
        self.arrivals.reattached += bool(message.get("again"))
        reply = {
            "epoch": self._epoch,
            "nbytes": channel.first_segment.nbytes,
            "submitted": channel.submitted.name,
            "bell": channel.bell.name,
            "doorbell": self.doorbell.name,
            "max_slots": self.settings.max_slots,
            "block": channel.first_block,
            "models": self.repository.describe(),
            "lifeline": self.lifeline_fd() >= 0,
        }
        return reply, channel.first_segment

    def _channel_for(self, session: Peer) -> Channel:
        channel = Channel(
            next(self._numbers),
            session.pid,
            self.memory,
            self.settings,
            lambda message, segment: self.control.push(session, message, segment),
            session.uid,
            self.intake.failures,
            self.access.may_run_sessions(session.uid),
            session.process,
        )
        channel.disconnect = lambda: self.control.disconnect(session)
        return channel

    def _opened(self, session: Peer, message: Message) -> Reply:
        names = message.get("names")
        _channel_of(session).unlink_names(names if _are_names(names) else ())
        return {}, None

    def _slots(self, session: Peer, message: Message) -> Reply:
        block, segment = _channel_of(session).add_slots()
        return {"nbytes": segment.nbytes, "block": block}, segment

    def _grow(self, session: Peer, message: Message) -> Reply:
        segment = _channel_of(session).grow_input(message.get("slot"), message.get("nbytes"))
        return {"nbytes": segment.nbytes}, segment

    def _shrink(self, session: Peer, message: Message) -> Reply:
        return {"region": _channel_of(session).shrink(message.get("slot"))}, None

    def _event(self, session: Peer, message: Message) -> Reply:
        return {}, _channel_of(session).lend_event()

    def _foreign(self, session: Peer, message: Message) -> None:
        """Close a channel that its worker reports as broken and closes, too. There is no reply."""
        why = str(message.get("why"))
        text = f"pid {session.pid}: {why}; its channel is closed"
        self.intake.failures.fault(FOREIGN_ANSWER, text, stack=False)

    def _lifeline(self, session: Peer, message: Message) -> Reply:
        fd = self.lifeline_fd()
        if fd < 0:
            raise BrokerError("this broker's system does not allow a thread to have its own descriptors")
        return {}, DuplicatedFd.copy(fd)

    def _reload(self, session: Peer, message: Message) -> None:
        """Reload models. The reply is sent when the reload is done. Raises BrokerError."""
        if session.uid not in (os.geteuid(), 0):
            raise BrokerError("only the broker's own user can reload models")
        number = message.get("id")

        def done(result: Mapping[str, Any] | BrokerError) -> None:
            reply = error_fields(result) if isinstance(result, BrokerError) else {"models": result}
            self.control.push(session, {**reply, "re": number}, None)

        self.loader.order(order_of(message, done))

    def _ad_hoc(self, session: Peer, message: Message) -> Reply:
        model, feeds, fetches = (message.get(field) for field in ("model", "feeds", "fetches"))
        if not (isinstance(model, str) and _are_names(feeds) and _are_names(fetches)):
            raise ProtocolError(
                f"pid {session.pid} asked for tensors by something other than names, or for too many"
            )
        if not self.access.may_run_sessions(session.uid):
            raise BrokerError(
                f"workers of uid {session.uid} may not run sessions on this broker of uid {os.geteuid()}: "
                "call the "
                "models' signatures, or start it with allow_sessions (onesession serve --allow-sessions)"
            )
        entry, operations, one_went = self.repository.ad_hoc(
            model, tuple(feeds), tuple(fetches), session.process
        )
        self.intake.serve(entry)
        if one_went:
            self.intake.follow()
        fields = {"id": entry.id, "stateful": entry.stateful, "operations": operations}
        return {**entry.signature.to_message(), **fields, "max_run_seconds": entry.max_run_seconds}, None


def _are_names(value: Any) -> TypeGuard[list[str]]:
    return (
        isinstance(value, list) and len(value) <= _MAX_NAMES and all(isinstance(name, str) for name in value)
    )


def _channel_of(session: Peer) -> Channel:
    if session.channel is None:
        raise ProtocolError(f"pid {session.pid} has not attached")
    if session.channel.closed:
        raise ProtocolError(f"the channel of pid {session.pid} is closed")
    return session.channel
