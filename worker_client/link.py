"""The control connection of one worker, and the thread that watches it.

    caller threads  -- request, send -->  socket  -->  broker
                                            |
    watcher thread: poll(socket, wake-up,   +--> reply        -> the caller that waits for it
                         lifeline)          |
                          |                 +--> output push  -> Channel.accept_output
                          |                 +--> models push  -> Catalogue.update
                          |                 +--> closed       -> Channel.close: every waiting call wakes
                          +--> a deadline passed              -> Channel.expire: that call wakes

The lifeline is a pipe that ends when the broker's process begins to end, which can be long before its sockets do.
The watcher keeps the deadlines of blocked calls on the monotonic clock. It is armed only when an earlier one comes,
so a stream of calls with the same timeout wakes it once per timeout, and an idle worker never.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import threading
import time
from itertools import count
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING

from worker_client import monkey
from worker_client.absence import Absent, BrokerLost, NoAnswer
from worker_client.wire import control, fork, threads
from worker_client.wire.address import unreachable
from worker_client.wire.clock import monotonic_ns
from worker_client.wire.errors import BrokerError, BrokerUnavailable, Overloaded
from worker_client.wire.layout import NO_DEADLINE
from worker_client.wire.refusal import is_refusal, refused

if TYPE_CHECKING:
    from worker_client.channel import Channel

_log = logging.getLogger("onesession.client")

_BACKLOG_PAUSE = 0.005  # seconds, for a broker that takes no more connections, or messages, now


class Descriptors(list[int]):
    """What came with a reply. Who takes one out owns it; the others are closed, whatever became of who had asked: its
    time may have passed, or a signal handler raised, just when the reply came."""

    __slots__ = ()

    def __del__(self) -> None:
        for fd in self:
            os.close(fd)


_Reply = tuple[control.Message, Descriptors] | None


class ControlLink:
    """Thread-safe. `channel` is set once, before any message for it can come."""

    def __init__(self, path: Path, sock: socket.socket) -> None:
        self.path = path
        self.process = fork.here()
        self.closed = False
        self.channel: Channel | None = None
        self.models: control.Message | None = None  # what was pushed last
        self.next_wake_ns = NO_DEADLINE
        self.ended_ns = (
            0  # when the broker's end was noticed; 0 as long as it is there, or if the end is ours
        )
        self._ours = ""  # why the end is ours
        self._broken = ""  # why the connection was broken off
        self._sock = sock
        self._lifeline = -1
        self._event = -1  # the channel's, which owns it
        self._wakeup = _new_wakeup()
        self._decoder = control.Decoder()
        self._ids = count(1)
        self._waiting: dict[int, queue.SimpleQueue[_Reply]] = {}
        self._send_lock = threading.RLock()  # a signal handler may call while its thread holds it
        self._half_sent = (
            0  # the thread of whose message a half is in the socket; short ones go whole, or not at all
        )
        self._close_lock = threading.RLock()
        fork.register(self, ControlLink.forget)
        self._thread = threading.Thread(target=self._watch, name="onesession-watcher", daemon=True)
        try:
            threads.start(self._thread)
        except Overloaded:
            os.close(self._wakeup)
            raise

    @classmethod
    def connect(cls, path: Path, timeout: float | None) -> ControlLink:
        """Raises Absent if nobody listens, NoAnswer if the connection is not taken in time, BrokerError if somebody
        listens whom we must not trust."""
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            raise BrokerUnavailable(f"no socket to reach the broker at {path}: {error.strerror}") from None
        fork.register(sock, methodcaller("close"))  # a fork may come before there is a link
        try:
            sock.settimeout(timeout)
            _connect(sock, path)
            sock.settimeout(None)
            _pid, uid = control.peer_of(sock)
            if uid not in (os.geteuid(), 0):
                raise BrokerError(f"{path} is served by uid {uid}, neither yours nor root's: not trusted")
            return cls(path, sock)
        except OSError as error:
            sock.close()
            if isinstance(error, (TimeoutError, BlockingIOError)):
                raise _no_answer(path, "connect", timeout) from None
            raise _refused(path, error) from None
        except BaseException:
            sock.close()
            raise

    def gone(self, ran: bool = False) -> BrokerUnavailable:
        """Why nothing more comes on this connection. `ran`: the call that asks had been handed to the broker."""
        if not self.process.word[0]:
            return fork.not_ours("the call")
        if self._ours:
            return BrokerUnavailable(f"{self._ours} (broker at {self.path})")
        if self._broken:
            return BrokerLost(
                f"the connection to the broker at {self.path} was broken off ({self._broken})", ran
            )
        return BrokerLost(f"the broker at {self.path} went away while the call was under way", ran)

    def request(self, message: control.Message, timeout: float | None) -> tuple[control.Message, Descriptors]:
        """Send, wait for the reply, and raise the error it may carry: all within `timeout` seconds, else NoAnswer."""
        if not self.process.word[0]:
            raise self.gone()
        number = next(self._ids)
        answer: queue.SimpleQueue[_Reply] = queue.SimpleQueue()
        self._waiting[number] = answer
        deadline_ns = NO_DEADLINE if timeout is None else monotonic_ns() + int(timeout * 1e9)
        try:
            self.send({**message, "id": number}, deadline_ns)
            left = None if timeout is None else max(0.0, (deadline_ns - monotonic_ns()) / 1e9)
            reply = answer.get(timeout=left)
        except queue.Empty:
            raise _no_answer(self.path, message["op"], timeout) from None
        finally:
            self._waiting.pop(number, None)
        if reply is None:
            raise self.gone()
        control.raise_if_error(reply[0])
        return reply

    def send(self, message: control.Message, deadline_ns: int) -> None:
        """Raises NoAnswer if the broker does not read what is sent until the deadline."""
        if not self.process.word[0]:
            raise self.gone()
        data, sent, me = control.encode(message), 0, threading.get_ident()
        try:
            while True:
                with self._send_lock:
                    if self.closed:
                        raise self.gone()
                    if self._half_sent == me and not sent:
                        raise BrokerError(
                            "a signal handler cannot call a broker that the call it interrupted is writing to"
                        )
                    if self._half_sent in (0, me):
                        sent += control.send_some(self._sock, data[sent:])
                        self._half_sent = me if 0 < sent < len(data) else 0
                if sent == len(data):
                    return
                if monotonic_ns() >= deadline_ns:
                    raise _no_answer(self.path, message["op"], 0)
                time.sleep(_BACKLOG_PAUSE)
        except OSError:
            raise self.gone() from None
        finally:
            if 0 < sent < len(data):  # what comes next would be taken for its other half
                self._broken = f"half of {message['op']!r} was sent when its call was over"
                self.closed = True
                self._wake()

    def hold_lifeline(self, timeout: float | None) -> None:
        """Have the broker's end told by its lifeline as well."""
        _, fds = self.request({"op": "lifeline"}, timeout)
        with self._close_lock:
            if not self.closed:
                self._lifeline = fds.pop()
        self._wake()

    def watch_event(self, event: int) -> None:
        """Have `Channel.answered` called whenever this descriptor is readable, as long as the channel is there."""
        if self._event != event:
            self._event = event
            self._wake()

    def arm(self, deadline_ns: int) -> None:
        """Have `Channel.expire` called at `deadline_ns` at the latest."""
        self.next_wake_ns = deadline_ns
        self._wake()

    def close(self) -> None:
        """Close from this side; returns when the watcher has ended (unless it is the caller, or nothing may wait)."""
        if not self.process.word[0]:
            self.forget()
            return
        if not self.closed:
            self._ours = "the client was closed while the call was under way"
        self.closed = True
        self._wake()
        if self._thread is not threading.current_thread() and not monkey.in_hub():
            self._thread.join()

    def break_off(self, why: str) -> None:
        """The broker sent what cannot be right. It learns of it if the socket has room; calls meet a lost broker."""
        if not self.process.word[0]:
            return
        _log.error("broker at %s: %s; the connection is closed", self.path, why)
        if not self.closed:
            self._broken = why
            with contextlib.suppress(OSError):  # a short message is taken whole if there is room at all
                control.send_some(self._sock, control.encode({"op": "foreign", "why": why}))
        self.closed = True
        self._wake()

    def forget(self) -> None:
        """In a child: let go of the parent's connection without closing it for the parent."""
        self.closed = True
        self.channel = None
        self._sock.close()
        self._close_descriptors()

    def _wake(self) -> None:
        if not self.process.word[0]:
            return
        with self._close_lock:
            if self._wakeup >= 0:
                os.eventfd_write(self._wakeup, 1)

    def _close_descriptors(self) -> None:
        fds, self._wakeup, self._lifeline = (self._wakeup, self._lifeline), -1, -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)

    def _watch(self) -> None:
        poll = monkey.poll()
        poll.register(self._sock.fileno(), monkey.POLLIN)
        poll.register(self._wakeup, monkey.POLLIN)
        try:
            while not self.closed:
                ready = [fd for fd, _event in poll.poll(self._milliseconds_left())]
                if not self.process.word[0]:  # we are a greenlet, and so was copied by a fork
                    break
                if self._wakeup in ready:
                    os.eventfd_read(self._wakeup)
                    for fd in (self._lifeline, self._event):
                        if fd >= 0:
                            poll.register(fd, monkey.POLLIN)
                if self._sock.fileno() in ready and not self._receive():
                    break
                if self._lifeline in ready:
                    break
                if self._event in ready and self.channel is not None:
                    self.channel.answered()
                self._keep_deadlines()
        finally:
            self._end()

    def _milliseconds_left(self) -> int | None:
        if self.next_wake_ns == NO_DEADLINE:
            return None
        left = self.next_wake_ns - monotonic_ns()
        return min(max(0, -(-left // 1_000_000)), 1 << 30)

    def _keep_deadlines(self) -> None:
        # The order matters: a call that blocks after our look finds NO_DEADLINE here, or our result, and arms us.
        self.next_wake_ns = NO_DEADLINE
        if self.channel is not None:
            earliest = self.channel.expire(monotonic_ns())
            self.next_wake_ns = min(self.next_wake_ns, earliest)

    def _receive(self) -> bool:
        try:
            if not self._decoder.receive(self._sock):
                return False
            while (item := self._decoder.next_message()) is not None:
                self._deliver(*item)
        except (OSError, control.ProtocolError):
            return False
        return True

    def _deliver(self, message: control.Message, fds: list[int]) -> None:
        waiting = self._waiting.get(message.get("re", 0))
        if waiting is not None:
            waiting.put((message, Descriptors(fds)))
        elif message.get("op") == "models":
            self.models = message["models"]  # first, for it may come before there is a channel
            if self.channel is not None:
                self.channel.catalogue.update(message["models"])
        elif message.get("op") == "output" and self.channel is not None and len(fds) == 1:
            self.channel.accept_output(message, fds[0])
        else:
            for fd in fds:
                os.close(fd)

    def _end(self) -> None:
        if not self.process.word[0]:
            return
        if not self.closed:
            self.ended_ns = monotonic_ns()
        self.closed = True
        with self._close_lock:
            self._close_descriptors()
        with self._send_lock:
            self._sock.close()
        self._decoder.close()
        for answer in list(self._waiting.values()):
            answer.put(None)
        if self.channel is not None:
            self.channel.close()


def _new_wakeup() -> int:
    try:
        return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    except OSError as error:
        if is_refusal(error):
            raise refused("eventfd2", "a worker's connection to its broker", error) from None
        raise


def _no_answer(path: Path, op: str, timeout: float | None) -> NoAnswer:
    return NoAnswer(f"the broker at {path} did not answer {op!r} within {timeout or 0:.3g} s")


def _refused(path: Path, error: OSError) -> BrokerUnavailable:
    told = unreachable(path, error)
    return Absent(str(told)) if isinstance(error, (ConnectionRefusedError, FileNotFoundError)) else told


def _connect(sock: socket.socket, path: Path) -> None:
    """Connect within the socket's time-out. A full backlog refuses at once: more workers come at a time than fit."""
    limit = monotonic_ns() + int((sock.gettimeout() or 0) * 1e9)
    while True:
        try:
            sock.connect(os.fspath(path))
            return
        except BlockingIOError:
            if monotonic_ns() >= limit:
                raise
            time.sleep(_BACKLOG_PAUSE)


def seconds_left(deadline_ns: int) -> float | None:
    if deadline_ns == NO_DEADLINE:
        return None
    return min(threading.TIMEOUT_MAX, max(0.001, (deadline_ns - monotonic_ns()) / 1e9))
