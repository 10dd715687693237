"""The control connection of one worker, and the thread that watches it.

    caller threads  -- request, send -->  socket  -->  broker
                                            |
    watcher thread: poll(socket, wake-up,   +--> reply        -> the caller that waits for it
                         lifeline)          |
                          |                 +--> output push  -> Channel.accept_output
                          |                 +--> models push  -> ModelCache.update
                          |                 +--> closed       -> Channel.close: every waiting call wakes
                          +--> a deadline passed              -> Channel.expire: that call wakes

The app may close our descriptors and reuse their numbers (`system/descriptor.py`). That ends the link as if the broker
had gone: the calls attach again. The watcher checks the descriptors whenever it wakes, other threads check them before
they write. While the watcher sleeps in poll(2), the kernel keeps the connection open, so calls under way are answered,
but no thread can wake the watcher: then the ring asks the broker to hang up (`Channel.leave`).

The lifeline is a pipe that ends when the broker's process begins to end, which can be long before its sockets do.
The watcher keeps the deadlines of blocked calls on the monotonic clock. It is armed only when an earlier one comes,
so a stream of calls with the same timeout wakes it once per timeout, and an idle worker never.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from itertools import count
from pathlib import Path
from posix import read, write  # not os's, in place of which eventlet puts some that wait
from typing import Protocol

from worker_client.attachment.connecting import BACKLOG_PAUSE, CLOSED, connected, no_answer
from worker_client.attachment.model_cache import ModelCache
from worker_client.attachment.retry_policy import BrokerLost
from worker_client.interpreter import fork, threads
from worker_client.interpreter import patched as monkey
from worker_client.interpreter.threads import Mutex
from worker_client.ipc.event import Event
from worker_client.system.clock import monotonic_ns
from worker_client.system.descriptor import Descriptor, OwnSocket, close_left, left_to_callers, new_pipe
from worker_client.system.refusal import is_refusal, refused
from worker_client.wire import control
from worker_client.wire.errors import BrokerError, BrokerUnavailable, Overloaded
from worker_client.wire.layout import NO_DEADLINE

_log = logging.getLogger("onesession.client")

_MANY_WAKES = 512


Received = list[Descriptor]
"""The descriptors that came with a reply. They close themselves if the caller has gone: its timeout may have passed,
or a signal handler may have raised, just when the reply came."""

_Reply = tuple[control.Message, Received] | None


class Attached(Protocol):
    """The channel that a link wakes. Only the watcher thread calls these methods, except `retire` and `leave`, which
    any thread may call."""

    model_cache: ModelCache

    def accept_output(self, message: control.Message, fd: Descriptor) -> None:
        """The broker bound a slot to a new output region."""
        ...

    def answered(self) -> None:
        """Handle that the event which the link watches is set."""
        ...

    def expire(self, now_ns: int) -> int:
        """Wake the calls whose deadline has passed. Returns the earliest deadline of the others."""
        ...

    def retire(self) -> None:
        """Begin no more calls; calls under way may still be answered."""
        ...

    def leave(self) -> None:
        """Ask the broker through the ring to hang up, because no thread can wake the watcher."""
        ...

    def close(self) -> None:
        """The connection has ended: every waiting call wakes."""
        ...


class ControlLink:
    """A worker's control connection. Thread-safe. `channel` is set once, before any message for it can arrive."""

    def __init__(self, path: Path, sock: OwnSocket) -> None:
        self.path = path
        self.process = fork.here()
        self.closed = False
        self.channel: Attached | None = None
        self.models: control.Message | None = None  # the last models message that the broker pushed
        self.next_wake_ns = NO_DEADLINE
        self.ended_ns = 0  # when the broker's end was noticed; 0 while it is there, or if this side closed
        self._ours = ""  # why this side closed the connection
        self._broken = ""  # why the connection was aborted
        self._lost = False  # other code closed one of our descriptors, or reused its number
        self._sock = sock
        self._lifeline: Descriptor | None = None
        self._event: Event | None = None  # the channel's, which owns it
        self._woken, self._wakeup = _new_wakeup()
        self._decoder = control.Decoder()
        self._ids = count(1)
        self._waiting: dict[int, queue.SimpleQueue[_Reply]] = {}
        self._send_lock = Mutex()  # a signal handler may call while its thread holds it
        self._half_sent = (
            0  # the thread whose message is half sent; short messages are sent whole or not at all
        )
        self._close_lock = Mutex()
        fork.register(self, ControlLink.after_fork_in_child)
        self._thread = threading.Thread(target=self._watch, name="onesession-watcher", daemon=True)

    @classmethod
    def connect(cls, path: Path, timeout: float | None) -> ControlLink:
        """Connect to the broker at `path`. Raises the errors of `connecting.connected`."""
        link = connected(path, timeout, lambda own: cls(path, own))
        link.start()
        return link

    def start(self) -> None:
        """Start the watcher, which closes everything at its end."""
        try:
            threads.start(self._thread)
        except Overloaded:
            self._close_all()
            raise
        except BaseException:  # a signal handler's: the thread may have started, and then closes everything
            self.closed = True
            self._wake()
            raise

    def gone(self, ran: bool = False) -> BrokerUnavailable:
        """Why the connection has ended. `ran`: the call that gets this error had been handed to the broker."""
        if not self.process.word[0]:
            return fork.not_ours("the call")
        if self._ours:
            return BrokerUnavailable(f"{self._ours} (broker at {self.path})")
        if self._broken:
            return BrokerLost(
                f"the connection to the broker at {self.path} was broken off ({self._broken})", ran
            )
        return BrokerLost(f"the broker at {self.path} went away while the call was under way", ran)

    def request(self, message: control.Message, timeout: float | None) -> tuple[control.Message, Received]:
        """Send a message, wait for the reply, and raise the error in it. Raises NoReply after `timeout` seconds."""
        if not self.process.word[0]:
            raise self.gone()
        number = next(self._ids)
        answer: queue.SimpleQueue[_Reply] = monkey.simple_queue()
        self._waiting[number] = answer
        deadline_ns = NO_DEADLINE if timeout is None else monotonic_ns() + int(timeout * 1e9)
        try:
            self.send({**message, "id": number}, deadline_ns)
            left = None if timeout is None else max(0.0, (deadline_ns - monotonic_ns()) / 1e9)
            reply = answer.get(timeout=left)
        except queue.Empty:
            raise no_answer(self.path, message["op"], timeout) from None
        finally:
            self._waiting.pop(number, None)
        if reply is None:
            raise self.gone()
        control.raise_if_error(reply[0])
        return reply

    def send(self, message: control.Message, deadline_ns: int) -> None:
        """Send a message. Raises NoReply if the broker does not read it before the deadline."""
        if not self.process.word[0]:
            raise self.gone()
        data, sent, me = control.encode(message), 0, threading.get_ident()
        try:
            while True:
                with self._send_lock:
                    if self.closed or not self._is_whole(self._sock):
                        raise self.gone()
                    if self._half_sent == me and not sent:
                        raise BrokerError(
                            "a signal handler cannot call a broker that the call it interrupted is writing to"
                        )
                    if self._half_sent in (0, me):
                        sent += control.send_some(self._sock.sock, data[sent:])
                        self._half_sent = me if 0 < sent < len(data) else 0
                if sent == len(data):
                    return
                if monotonic_ns() >= deadline_ns:
                    raise no_answer(self.path, message["op"], 0)
                time.sleep(BACKLOG_PAUSE)
        except OSError:  # the watcher would see it soon, but a greenlet that tries again would not let it run
            self._note_end()
            raise self.gone() from None
        finally:
            if 0 < sent < len(data):  # the next message would be taken for its second half
                self._broken = f"half of {message['op']!r} was sent when its call was over"
                self.closed = True
                self._wake()

    def hold_lifeline(self, timeout: float | None) -> None:
        """Watch the broker's lifeline as well, to notice its end earlier."""
        _, fds = self.request({"op": "lifeline"}, timeout)
        with self._close_lock:
            if not self.closed and fds and not fds[-1].missing:
                self._lifeline = fds[-1]
        self._wake()

    def watch_event(self, event: Event) -> None:
        """Arrange that `Channel.answered` is called whenever the event is set, until the channel is closed."""
        with self._close_lock:
            if self.closed or self._event is event:
                return
            self._event = event
        self._wake()

    def arm(self, deadline_ns: int) -> bool:
        """Arrange that `Channel.expire` is called at `deadline_ns` at the latest. False if the watcher cannot be woken
        for that."""
        self.next_wake_ns = deadline_ns
        return self._wake()

    def close(self) -> None:
        """Close from this side. Returns when the watcher has ended, unless the caller is the watcher or must not
        wait."""
        if not self.process.word[0]:
            self.after_fork_in_child()
            return
        if not self.closed:
            self._ours = "the client was closed while the call was under way"
        if self.channel is not None:
            self.channel.retire()  # calls that begin now attach again
        self.closed = True
        if not self._wake():
            self._ask_to_hang_up()
        elif monkey.may_join(self._thread):
            self._thread.join()
        close_left()

    def break_off(self, why: str) -> None:
        """Abort the connection, because the broker sent something wrong. The broker is notified if the socket has
        room; calls get BrokerLost."""
        if not self.process.word[0]:
            return
        _log.error("broker at %s: %s; the connection is closed", self.path, why)
        if not self.closed:
            self._broken = why
            with contextlib.suppress(OSError):  # a short message is sent whole if there is any room
                if self._sock.ours:
                    control.send_some(self._sock.sock, control.encode({"op": "foreign", "why": why}))
        self.closed = True
        self._wake()

    def lose(self) -> None:
        """End as if the broker had gone, because other code closed a descriptor of the channel."""
        if self.process.word[0]:
            self._note_loss()
            self._wake()

    def after_fork_in_child(self) -> None:
        """Release the parent's connection without closing it for the parent."""
        self.closed = True
        self.channel = None
        self._sock.close()
        self._close_descriptors()

    def _wake(self) -> bool:
        """Wake the watcher. False if that is impossible, because the descriptor it waits for was closed."""
        if not self.process.word[0]:
            return True
        with self._close_lock:
            if self._wakeup.fd < 0:  # it has ended
                return True
            if not self._wakeup.ours:
                self._note_loss()
                return False
            try:
                write(self._wakeup.fd, b"\0")
            except BlockingIOError:
                pass  # the pipe is full, so the watcher will wake
            except BrokenPipeError:  # the watcher's end of the pipe was closed
                self._note_loss()
                return False
        return True

    def _ends(self) -> list[Descriptor | OwnSocket | Event]:
        """All descriptors of the link: those that the watcher polls and the one that wakes it, whose loss would wake
        it endlessly."""
        ends = (self._sock, self._woken, self._wakeup, self._lifeline, self._event)
        return [end for end in ends if end is not None]

    def _is_whole(self, *ends: Descriptor | OwnSocket | Event) -> bool:
        """Whether all of them are still ours. If not, the link ends, and no call begins any more."""
        if not self._lost and all(end.ours for end in ends):
            return True
        self._note_loss()
        return False

    def _note_end(self) -> None:
        if not self.closed:
            self.ended_ns = monotonic_ns()
            self.closed = True
            if self.channel is not None:
                self.channel.retire()
            self._wake()

    def _note_loss(self) -> None:
        """Begin no more calls, because a descriptor was closed."""
        self._lost = True
        if self.closed:
            return
        self._broken = f"{CLOSED} of it"
        self.closed = True
        if self.channel is not None:
            self.channel.retire()

    def _ask_to_hang_up(self) -> None:
        if self.channel is not None:
            self.channel.leave()

    def _close_descriptors(self) -> None:
        self._event = None
        for descriptor in (self._woken, self._wakeup, self._lifeline):
            if descriptor is not None:
                descriptor.close()

    def _watch(self) -> None:
        poll = monkey.poll()
        poll.register(self._sock.sock.fileno(), monkey.POLLIN)
        poll.register(self._woken.fd, monkey.POLLIN)
        # This end is never ready, but while it is polled the kernel keeps both ends open.
        poll.register(self._wakeup.fd, monkey.POLLIN)
        try:
            while not self.closed:
                ready = self._poll(poll)
                if not self.process.word[0]:  # this is a greenlet, which a fork has copied
                    break
                if not self._is_whole(*self._ends()):
                    break
                if self._woken.fd in ready:
                    read(self._woken.fd, _MANY_WAKES)
                    for end in (self._lifeline, self._event):
                        if end is not None:
                            poll.register(end.fd, monkey.POLLIN)
                if self._sock.sock.fileno() in ready and not self._receive():
                    break
                if self._lifeline is not None and self._lifeline.fd in ready:
                    break
                if self._event is not None and self._event.fd in ready and self.channel is not None:
                    self.channel.answered()
                self._keep_deadlines()
        finally:
            self._end()

    def _poll(self, poll: monkey.Poll) -> list[int]:
        """The descriptor numbers that are ready, possibly none."""
        try:
            return [fd for fd, _event in poll.poll(self._milliseconds_left())]
        except OSError:  # eventlet raises it if a descriptor was closed and its number reused
            if self._is_whole(*self._ends()):
                raise
            return []

    def _milliseconds_left(self) -> int | None:
        if self.next_wake_ns == NO_DEADLINE:
            return None
        left = self.next_wake_ns - monotonic_ns()
        return min(max(0, -(-left // 1_000_000)), 1 << 30)

    def _keep_deadlines(self) -> None:
        # The order matters: a call that blocks after `expire` finds NO_DEADLINE, or the result, and arms the watcher.
        self.next_wake_ns = NO_DEADLINE
        if self.channel is not None:
            earliest = self.channel.expire(monotonic_ns())
            self.next_wake_ns = min(self.next_wake_ns, earliest)

    def _receive(self) -> bool:
        try:
            if not self._decoder.receive(self._sock.sock):
                return False
            while (item := self._decoder.next_message()) is not None:
                self._deliver(*item)
        except (OSError, control.ProtocolError):
            return False
        except MemoryError:  # a part of the message may be lost
            self._broken = "this process has no memory for what came"
            return False
        return True

    def _deliver(self, message: control.Message, fds: list[int]) -> None:
        received = [Descriptor(fd) for fd in fds]
        waiting = self._waiting.get(message.get("re", 0))
        if waiting is not None:
            waiting.put((message, received))
        elif message.get("op") == "models":
            self.models = message["models"]  # first, because the message may arrive before there is a channel
            if self.channel is not None:
                self.channel.model_cache.update(message["models"])
        elif message.get("op") == "output" and self.channel is not None and len(fds) == 1:
            self.channel.accept_output(message, received[0])

    def _end(self) -> None:
        if not self.process.word[0]:
            return
        if not self.closed:
            self.ended_ns = monotonic_ns()
        self.closed = True
        # If a descriptor is lost, the code that closed it may still be closing others.
        lost = self._lost or not all(end.ours for end in self._ends())
        with left_to_callers() if lost else contextlib.nullcontext():
            self._close_all()
        for answer in list(self._waiting.values()):
            answer.put(None)
        if self.channel is not None:
            self.channel.close()

    def _close_all(self) -> None:
        with self._close_lock:
            self._close_descriptors()
        with self._send_lock:
            self._sock.close()
        self._decoder.close()


def _new_wakeup() -> tuple[Descriptor, Descriptor]:
    try:
        return new_pipe()
    except OSError as error:
        if is_refusal(error):
            raise refused("pipe2", "a worker's connection to its broker", error) from None
        raise


def seconds_left(deadline_ns: int) -> float | None:
    if deadline_ns == NO_DEADLINE:
        return None
    return min(threading.TIMEOUT_MAX, max(0.001, (deadline_ns - monotonic_ns()) / 1e9))
