"""From an address to a live channel: attaches at first use, after a fork, and after the broker went away.

One thread attaches at a time, without holding a lock. The other threads wait for it until their own deadlines; if it
fails, the next one tries. `attachment/retry_policy.py` decides how long a call waits for a missing broker.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker_client.attachment.link import ControlLink, seconds_left
from worker_client.attachment.metadata import SignatureInfo
from worker_client.attachment.model_cache import Models
from worker_client.attachment.retry_policy import (
    RETURN_SECONDS,
    AttachPolicy,
    BrokerLost,
    NoReply,
    NotListening,
)
from worker_client.calls.channel import Channel
from worker_client.calls.futures import PendingCall
from worker_client.calls.retries import RetryThread
from worker_client.green import channel as green
from worker_client.green.hubs import NoGreenlet, run_in_greenlet
from worker_client.interpreter import fork
from worker_client.interpreter import patched as monkey
from worker_client.interpreter.condition import Condition
from worker_client.ipc import own_broker
from worker_client.ipc.waiting import WaitMode
from worker_client.system import limits
from worker_client.system.clock import monotonic_ns
from worker_client.wire.address import first_served
from worker_client.wire.errors import BrokerError, BrokerUnavailable, DeadlineExceeded
from worker_client.wire.layout import NO_DEADLINE, PROTOCOL
from worker_client.wire.signature import Signature

_RETURN_NS = int(RETURN_SECONDS * 1e9)

_of_copies: dict[tuple[str, str], Connection] = {}


class Connection:
    """The connection of a process to one broker. Any thread may use it; nothing happens before the first call.

    In a forked child it starts afresh at its first call, without the parent's channel, locks, turns or pending retries.
    A copy is the same object; unpickling returns the one connection of the process to that address.
    """

    def __init__(self, path: Path, mode: WaitMode, places: tuple[Path, ...] = ()) -> None:
        """`places`: all paths at which the broker may appear (`address.places`)."""
        self.path = path
        self._places = places
        self.mode = mode
        self._process = fork.here()
        self._link: ControlLink | None = None
        self._channel: Channel | None = None
        self._attaching: _Turn | None = None
        self.closings = 0  # how often it was closed; calls that wait for a channel give up when this changes
        self._met_a_broker = False  # in the life of this process, or before the fork
        self._missing_since_ns = 0  # when the broker was first missed; 0 while it is not missing
        self._hub = green.hub()  # the hub in which the channel is made, if greenlets use it
        fork.register(self, Connection.after_fork_in_child)

    def __copy__(self) -> Connection:
        return self

    def __deepcopy__(self, memo: object) -> Connection:
        return self

    def __reduce__(self) -> tuple[Callable[[str, str], Connection], tuple[str, str]]:
        return connection_to, (os.fspath(self.path), self.mode.value)

    def __repr__(self) -> str:
        return f"<Connection {self.path} {self._channel or 'not attached'}>"

    # Made at the first call: gunicorn's gevent worker patches threading after the app was preloaded.

    @property
    def _changed(self) -> Condition:
        """Notified when the connection is attached or closed, and when the next thread may attach."""
        condition: Condition = self.__dict__.setdefault("_condition", Condition())
        return condition

    @property
    def reruns(self) -> RetryThread:
        reruns: RetryThread = self.__dict__.setdefault("_reruns", RetryThread())
        return reruns

    def channel(
        self, deadline_ns: int = NO_DEADLINE, patient: bool = True, closings: int | None = None
    ) -> Channel:
        """This process's channel. `patient`: wait for a broker that went away, as `attachment/retry_policy.py` says.
        `closings`: the count of closings when the call began; a client that was closed since then does not attach again
        for this call.

        Raises BrokerUnavailable if there is no broker to attach to, DeadlineExceeded if it does not answer in time.
        """
        channel = self._channel
        if channel is not None and channel.open:
            return channel
        self._enter()
        if self._places and not self._met_a_broker:
            self.path = first_served(self._places)
        own_broker.check(self.path)
        closings = self.closings if closings is None else closings
        if monkey.in_native_thread():
            return self._channel_of_hub(deadline_ns, patient, closings)
        self._hub = green.hub()
        attach_policy = self._attach_policy(deadline_ns, patient)
        while True:
            try:
                return self._attach_in_turn(deadline_ns, closings)
            except (NotListening, BrokerLost, NoReply) as error:
                pause = attach_policy.pause_s(error, monotonic_ns())
            with self._changed:
                if pause and self.closings == closings:
                    self._changed.wait(pause)

    def models(self, deadline_ns: int = NO_DEADLINE, patient: bool = True) -> Models:
        """The broker's models, as it last sent them. The broker is asked only after `doubt_models`."""
        channel = self.channel(deadline_ns, patient)
        if channel.model_cache.stale:
            try:
                channel.ask_for_models(seconds_left(deadline_ns))
            except NoReply as error:
                raise DeadlineExceeded(str(error)) from None
        return channel.model_cache.models

    def doubt_models(self) -> None:
        """Make the next call of `models` ask the broker."""
        channel = self._channel
        if channel is not None:
            channel.model_cache.stale = True

    def ad_hoc(
        self, model: str, feeds: tuple[str, ...], fetches: tuple[str, ...], deadline_ns: int
    ) -> SignatureInfo:
        """These tensors of the model's graph as a signature. The caller must have called `channel` before.

        Raises InvalidInput, ModelNotFound, Overloaded.
        """
        link = self._link
        if link is None:
            raise BrokerLost(f"the broker at {self.path} went away")
        message = {"op": "ad_hoc", "model": model, "feeds": feeds, "fetches": fetches}
        try:
            reply, _ = link.request(message, seconds_left(deadline_ns))
        except NoReply as error:
            raise DeadlineExceeded(str(error)) from None
        limit = reply.get("max_run_seconds", 0.0)
        return SignatureInfo(reply["id"], Signature.from_message(reply), reply["stateful"], limit)

    def run_again(self, call: PendingCall, lost: BrokerLost) -> None:
        """Run a call whose broker went away on the next broker, or end its future."""
        self.reruns.add(call, lost)

    def close(self) -> None:
        """Close the channel, and stop waiting for one. Calls under way get BrokerUnavailable."""
        self._enter()
        with self._changed:
            self.closings += 1
            link, channel = self._link, self._channel
            self._changed.notify_all()
        self._let_go(link, channel)
        if channel is not None:
            channel.futures.join()
        for thread in self.reruns.close(self._closed()):
            if monkey.may_join(thread):
                thread.join()

    def missed(self, deadline_ns: int, patient: bool = True) -> BrokerError:
        """The error of a call that timed out while another thread was attaching."""
        now = monotonic_ns()
        attach_policy = self._attach_policy(deadline_ns, patient)
        try:
            attach_policy.pause_s(
                NoReply(f"another call still waits for the broker at {self.path}"), max(now, deadline_ns)
            )
        except BrokerError as error:
            return error
        raise AssertionError("the deadline has passed")

    def spent_ns(self, since_ns: int) -> int:
        """How much of its timeout a call has spent that began then."""
        return monotonic_ns() - since_ns

    def _attach_policy(self, deadline_ns: int, patient: bool) -> AttachPolicy:
        return AttachPolicy(self.path, deadline_ns, patient and self._is_expected(monotonic_ns()))

    def _is_expected(self, now_ns: int) -> bool:
        """Whether a broker that is not there now may well be back soon."""
        missing_since = self._missing_since_ns or (self._link.ended_ns if self._link is not None else 0)
        return self._met_a_broker and (not missing_since or now_ns - missing_since < _RETURN_NS)

    # -- native threads under gevent and eventlet ------------------------------------------------------------------

    def _channel_of_hub(self, deadline_ns: int, patient: bool, closings: int) -> Channel:
        """`channel` for a native thread. A greenlet of the main thread makes the channel, because all its parts run
        there."""
        try:
            channel: Channel = run_in_greenlet(
                self._hub, lambda: self.channel(deadline_ns, patient, closings), deadline_ns
            )
            return channel
        except NoGreenlet:
            with self._changed:
                while self._attaching is not None and monotonic_ns() < deadline_ns:
                    self._changed.wait(seconds_left(deadline_ns))
                if self._channel is not None and self._channel.open:
                    return self._channel
            raise BrokerUnavailable(
                f"a native thread cannot attach to the broker at {self.path} by itself in a process that gevent or "
                "eventlet has patched; call client.models() in a greenlet of the main thread first"
            ) from None

    def _release(self, link: ControlLink | None, channel: Channel | None) -> None:
        if not (
            monkey.in_native_thread()
            and self._hub is not None
            and self._hub.spawn(lambda: _release(link, channel))
        ):
            _release(link, channel)

    # -- attaching -----------------------------------------------------------------------------------------------

    def _attach_in_turn(self, deadline_ns: int, closings: int) -> Channel:
        turn = _Turn()
        try:
            with self._changed:
                self._await_turn(deadline_ns)
                if self.closings != closings:
                    raise self._closed()
                if self._channel is not None and self._channel.open:
                    return self._channel
                self._attaching = turn
            return self._attach(deadline_ns, closings)
        finally:
            if self._attaching is turn:
                self._attaching = None  # before any call, because a signal handler may raise in each
                with self._changed:
                    self._changed.notify_all()

    def _await_turn(self, deadline_ns: int) -> None:
        while self._attaching is not None:
            if self._attaching.thread == threading.get_ident():
                raise BrokerError(
                    "a signal handler cannot call a broker that the call it interrupted attaches to"
                )
            if monotonic_ns() >= deadline_ns:
                raise NoReply(f"another thread still waits for the broker at {self.path}")
            self._changed.wait(seconds_left(deadline_ns))

    def _attach(self, deadline_ns: int, closings: int) -> Channel:
        self._drop()
        channel_type = green.channel_type()
        try:
            link = self._greet(deadline_ns, closings)
        except (NotListening, BrokerLost):
            self._missing_since_ns = self._missing_since_ns or monotonic_ns()
            raise
        try:
            again = self._met_a_broker and self._missing_since_ns > 0
            reply, fds = link.request({"op": "attach", "again": again}, seconds_left(deadline_ns))
            channel = channel_type(link, reply, fds.pop(), self.mode, deadline_ns)
            if reply.get("lifeline"):
                link.hold_lifeline(seconds_left(deadline_ns))
        except (OSError, MemoryError) as error:
            link.close()
            what = f"the memory of the broker at {self.path}"
            raise limits.overloaded_by(error, 0, what) or BrokerUnavailable(
                f"cannot map {what}: {error}"
            ) from None
        except BaseException:
            link.close()
            raise
        if own_broker.is_at(self.path):
            _refuse_models(channel, self.path)
        link.channel = channel
        if link.models is not None:
            channel.model_cache.update(link.models)
        if link.closed:  # the watcher may have ended before it knew the channel
            channel.close()
            raise link.gone()
        with self._changed:
            closed = self.closings != closings
            if not closed:
                self._channel = channel
                self._met_a_broker, self._missing_since_ns = True, 0
        if closed:
            _release(link, channel)
            raise self._closed()
        return channel

    def _greet(self, deadline_ns: int, closings: int) -> ControlLink:
        timeout = seconds_left(deadline_ns)
        link = self._link = ControlLink.connect(self.path, timeout)  # from now on `close` can end it
        try:
            if self.closings != closings:
                raise self._closed()
            link.request({"op": "hello", "protocol": PROTOCOL, "pid": os.getpid()}, timeout)
        except BaseException:
            link.close()
            raise
        return link

    def _drop(self) -> None:
        """Release what is left of an earlier channel."""
        with self._changed:
            link, channel = self._link, self._channel
            if link is not None and self._met_a_broker and not self._missing_since_ns:
                self._missing_since_ns = link.ended_ns
        self._let_go(link, channel)

    def _let_go(self, link: ControlLink | None, channel: Channel | None) -> None:
        """Forgotten once they are closed, not before: a signal handler may raise meanwhile."""
        self._release(link, channel)
        with self._changed:
            if self._link is link:
                self._link = None
            if self._channel is channel:
                self._channel = None

    def _closed(self) -> BrokerUnavailable:
        return BrokerUnavailable(f"the client was closed while the call waited for the broker at {self.path}")

    def _enter(self) -> None:
        """Begin afresh if this process was forked from the one that used the connection."""
        fork.here()  # once, by one thread: another may attach already, and would lose what it attaches to

    def after_fork_in_child(self) -> None:
        """Drop the channel, which belongs to the parent: the child must not keep the parent's socket open."""
        self._process = fork.here()
        self.__dict__.pop("_condition", None)
        self.__dict__.pop("_reruns", None)
        self._attaching = None
        channel, self._channel = self._channel, None
        link, self._link = self._link, None
        if link is not None:
            link.after_fork_in_child()
            self._missing_since_ns = self._missing_since_ns or link.ended_ns
        if channel is not None:
            channel.after_fork_in_child()

    def __del__(self) -> None:
        if sys.is_finalizing():  # the watcher thread can no longer end; the kernel closes its descriptors
            return
        if self._process.word[0]:
            self._drop()
        else:
            self.after_fork_in_child()


def connection_to(path: str, mode: str) -> Connection:
    """The connection of all unpickled handles in this process: they share one channel. It stays open when the last of
    them is dropped, because a pool's process gets new ones with its next task."""
    key = path, mode
    return _of_copies.get(key) or _of_copies.setdefault(key, Connection(Path(path), WaitMode(mode)))


class _Turn:
    """A turn to attach, and the thread that has it."""

    __slots__ = ("thread",)

    def __init__(self) -> None:
        self.thread = threading.get_ident()


def _refuse_models(channel: Channel, path: Path) -> None:
    """Make calls from the threads that run the models of a broker in this process fail. Other channels pay nothing for
    this check."""
    submit = channel.submit

    def submit_if_no_model(*arguments: Any) -> None:
        own_broker.check_thread(path)
        submit(*arguments)

    channel.__dict__["submit"] = submit_if_no_model


def _release(link: ControlLink | None, channel: Channel | None) -> None:
    if link is not None:
        link.close()
        link.channel = None
    if channel is not None:
        channel.dispose()
