"""From an address to a live channel: attach at first use, again after a fork, again after the broker was away."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from pathlib import Path
from time import monotonic_ns

from worker_client import green
from worker_client.channel import Channel
from worker_client.link import ControlLink, NoAnswer, forget_sockets
from worker_client.metadata import ModelInfo, SignatureInfo
from worker_client.wire.errors import BrokerUnavailable, DeadlineExceeded
from worker_client.wire.layout import NO_DEADLINE, PROTOCOL
from worker_client.wire.signature import Signature
from worker_client.wire.waiting import WaitMode

_HANDSHAKE_TIMEOUT = 10.0  # seconds, if the caller's deadline allows

_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


class Connection:
    """What a process shares to reach one broker. Any thread may call; nothing happens before the first call."""

    def __init__(self, path: Path, mode: WaitMode) -> None:
        self.path = path
        self.mode = mode
        self._link: ControlLink | None = None
        self._channel: Channel | None = None
        self._models: dict[str, ModelInfo] = {}
        _connections.add(self)

    def __repr__(self) -> str:
        return f"<Connection {self.path} {self._channel or 'not attached'}>"

    def channel(self, deadline_ns: int = NO_DEADLINE) -> Channel:
        """This process's channel. Raises BrokerUnavailable if there is no broker to attach to."""
        channel = self._channel
        if channel is not None and channel.open:
            return channel
        with self._attaching:
            if self._channel is None or not self._channel.open:
                self._drop()
                self._channel = self._attach_in_time(deadline_ns)
            return self._channel

    def models(self, deadline_ns: int = NO_DEADLINE) -> dict[str, ModelInfo]:
        """The broker's models, as it told them when this process attached."""
        self.channel(deadline_ns)
        return self._models

    def ad_hoc(
        self, model: str, feeds: tuple[str, ...], fetches: tuple[str, ...], deadline_ns: int
    ) -> SignatureInfo:
        """These tensors of the model's graph as a signature. Raises InvalidInput, ModelNotFound, Overloaded."""
        self.channel(deadline_ns)
        link = self._link
        if link is None:
            raise BrokerUnavailable(f"the connection to the broker at {self.path} was closed")
        message = {"op": "ad_hoc", "model": model, "feeds": feeds, "fetches": fetches}
        reply, _ = link.request(message, _seconds_left(deadline_ns))
        return SignatureInfo(reply["id"], Signature.from_message(reply))

    def close(self) -> None:
        with self._attaching:
            channel = self._drop()
        if channel is not None:
            channel.futures.join()

    @property
    def _attaching(self) -> threading.Lock:
        # Made at the first call: gunicorn's gevent worker patches threading after the app was preloaded.
        lock: threading.Lock = self.__dict__.setdefault("_lock", threading.Lock())
        return lock

    def _greet(self, deadline_ns: int) -> ControlLink:
        timeout = _seconds_left(deadline_ns)
        link = ControlLink.connect(self.path, timeout)
        try:
            link.request({"op": "hello", "protocol": PROTOCOL, "pid": os.getpid()}, timeout)
        except BaseException:
            link.close()
            raise
        return link

    def _attach_in_time(self, deadline_ns: int) -> Channel:
        try:
            return self._attach(deadline_ns)
        except NoAnswer as error:
            if monotonic_ns() < deadline_ns:
                raise
            raise DeadlineExceeded(
                f"the call's timeout passed before this process was attached: {error}"
            ) from None

    def _attach(self, deadline_ns: int) -> Channel:
        channel_type = green.channel_type()
        link = self._link = self._greet(deadline_ns)
        try:
            reply, fds = link.request({"op": "attach"}, _seconds_left(deadline_ns))
            channel = channel_type(link, reply, fds[0], self.mode)
            self._models = {
                name: ModelInfo.from_message(name, info) for name, info in reply["models"].items()
            }
        except OSError as error:  # no descriptors, no address space
            link.close()
            raise BrokerUnavailable(f"cannot map the memory of the broker at {self.path}: {error}") from None
        except BaseException:
            link.close()
            raise
        link.channel = channel
        if link.closed:  # the watcher may have ended before it knew the channel
            channel.close()
            raise BrokerUnavailable(f"the broker at {self.path} went away")
        return channel

    def _drop(self) -> Channel | None:
        link, self._link = self._link, None
        channel, self._channel = self._channel, None
        if link is not None:
            link.close()
            link.channel = None
        if channel is not None:
            channel.dispose()
        return channel

    def forget(self) -> None:
        """In a forked child: the parent's channel is not ours, and its socket must not be held open by us."""
        self.__dict__.pop("_lock", None)
        channel, self._channel = self._channel, None
        link, self._link = self._link, None
        if channel is not None:
            channel.open = False
            channel.dispose()
        if link is not None:
            link.forget()

    def __del__(self) -> None:
        if not sys.is_finalizing():  # the watcher thread cannot end any more; the kernel closes what it has
            self._drop()


def _seconds_left(deadline_ns: int) -> float:
    if deadline_ns == NO_DEADLINE:
        return _HANDSHAKE_TIMEOUT
    return min(_HANDSHAKE_TIMEOUT, max(0.001, (deadline_ns - monotonic_ns()) / 1e9))


def _forget_all() -> None:
    for connection in list(_connections):
        connection.forget()
    forget_sockets()


os.register_at_fork(after_in_child=_forget_all)
