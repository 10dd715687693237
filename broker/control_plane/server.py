"""The control plane's end in the broker: one thread, one selector, every worker's connection.

    accept -> SO_PEERCRED -> Peer --message--> handler by op --reply, descriptors--> outbox -> socket
     a connection ends -> its channel is taken out of the intake

A peer that reads slowly fills its own outbox and is disconnected; so is a peer that sends nonsense. Each round handles
one message of each peer, so that a peer that sends many messages does not delay the others for long.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Hashable
from types import NoneType
from typing import Any

from broker.control_plane.peers import SECONDS_TO_HELLO, Peers
from broker.data_plane.channel import Channel
from broker.sharing.access import Access
from worker_client.ipc.event import DuplicatedFd
from worker_client.ipc.segment import Segment
from worker_client.system.clock import monotonic
from worker_client.wire import control
from worker_client.wire.control import Decoder, Message, ProtocolError
from worker_client.wire.errors import BrokerError, Overloaded
from worker_client.wire.layout import PROTOCOL

_log = logging.getLogger("onesession.control")

_MAX_OUTBOX = 256  # messages a peer may leave unread
_MAX_REFUSED = 16
_SLACK = 0.1
_UNANSWERED = ("foreign", "opened")  # all others need an id: the peer must be there and read the replies

Reply = tuple[Message, Segment | DuplicatedFd | None]
Handler = Callable[["Peer", Message], Reply | None]
"""The reply to a message; None if it comes later, by `push`."""


class Peer:
    """One connected peer. `channel` is set once it has attached."""

    def __init__(self, sock: socket.socket, pid: int, uid: int) -> None:
        self.sock = sock
        self.pid = pid
        self.uid = uid
        self.greeted = False
        self.one_too_many = ""  # the reason to refuse its hello
        self.alive = True  # the peer may still send
        self.channel: Channel | None = None
        self.announcement: bytes | None = None  # sent when the outbox is empty
        # A peer of another pid namespace has no pid here.
        self.process: Hashable = (uid, pid) if pid else object()
        self.decoder = Decoder()
        self._outbox: deque[tuple[bytes, int]] = deque()

    def __repr__(self) -> str:
        return f"<Peer of pid {self.pid}>"

    def queue(self, message: Message, segment: Segment | DuplicatedFd | None) -> None:
        """Put a message, and the descriptor of a segment with it, into the outbox."""
        if len(self._outbox) >= _MAX_OUTBOX:
            if segment is not None:
                segment.close_fd()
            raise ProtocolError(f"pid {self.pid} has not read the last {_MAX_OUTBOX} messages")
        fd = -1
        if segment is not None:
            fd = segment.detach_fd()
            message = {**message, "fds": 1}
        self._outbox.append((control.encode(message), fd))

    def flush(self) -> bool:
        """Write as much as the socket takes. True when the outbox is empty. Raises OSError."""
        while self._outbox or self.announcement is not None:
            if not self._outbox and self.announcement is not None:
                self._outbox.append((self.announcement, -1))
                self.announcement = None
            data, fd = self._outbox[0]
            try:
                sent = socket.send_fds(self.sock, [data], [fd] if fd >= 0 else [])
            except BlockingIOError:
                return False
            if fd >= 0:
                os.close(fd)
            self._outbox.popleft()
            if sent < len(data):
                self._outbox.appendleft((data[sent:], -1))
        return True

    def close(self) -> None:
        self.sock.close()
        self.decoder.close()
        while self._outbox:
            _data, fd = self._outbox.popleft()
            if fd >= 0:
                os.close(fd)


class _Regular:
    """An action that runs about every `seconds`: when the thread is awake at about that time, and at `latest` in any
    case, so that the regular actions and the watchdog's question wake an idle thread once, not each for itself."""

    def __init__(self, seconds: float, action: Callable[[], None]) -> None:
        self._seconds = seconds
        self._action = action
        self._wait()

    def do_if_due(self) -> None:
        if monotonic() >= self._earliest:
            self._wait()
            self._action()

    def _wait(self) -> None:
        now = monotonic()
        self._earliest = now + (1 - _SLACK) * self._seconds
        self.latest = now + (1 + _SLACK) * self._seconds


class ControlServer:
    """`run` is the body of the control thread; `call`, `push`, `drop`, `disconnect` and `stop` may be called from any
    thread."""

    def __init__(
        self,
        listener: socket.socket,
        handlers: dict[str, Handler],
        on_end: Callable[[Peer], None],
        access: Access | None = None,
    ) -> None:
        self.sessions: set[Peer] = set()
        self._listener = listener
        self._handlers = {"hello": self._hello, **handlers}
        self._on_end = on_end
        self._access = access or Access()
        self._selector = selectors.DefaultSelector()
        self._spare = os.open(
            os.devnull, os.O_RDONLY | os.O_CLOEXEC
        )  # reserved, to refuse connections when no other is left
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._wakeup_lock = threading.Lock()
        self._pushes: deque[tuple[Peer, Message | None, Segment | None]] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        self._regular: list[_Regular] = []
        self._backlog: dict[Peer, None] = {}  # peers that may have sent more messages than were handled
        self._peers = Peers()
        self._silent: dict[Peer, float] = {}  # when each peer must have said hello, earliest first
        self._refused = 0  # connections beyond the limits
        self._stopping = False
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._wakeup, selectors.EVENT_READ)

    def call(self, action: Callable[[], None]) -> None:
        """Have the control thread run this action between two messages."""
        self._calls.append(action)
        self._wake()

    def regularly(self, seconds: float, action: Callable[[], None]) -> None:
        """Have the control thread run this action about every `seconds`. Call it before `run`."""
        self._regular.append(_Regular(seconds, action))

    def listen_at(self, listener: socket.socket) -> None:
        """Accept connections of this socket from now on, and those that still wait at the previous socket, which is
        closed. Called on the control thread only."""
        before, self._listener = self._listener, listener
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.unregister(before)
        poll = select.poll()
        poll.register(before, select.POLLIN)
        with before:
            while poll.poll(0):
                self._accept(before)

    def announce(self, message: Message) -> None:
        """Send this to every worker. A worker that has not read earlier announcements gets only the last one. Called on
        the control thread only."""
        data = control.encode(message)
        for session in list(self.sessions):
            if session.channel is not None:
                session.announcement = data
                try:
                    self._flush(session)
                except OSError as error:
                    self._end(session, error)

    def push(self, session: Peer, message: Message, segment: Segment | None) -> None:
        """Send a message that is not a reply."""
        self._pushes.append((session, message, segment))
        self._wake()

    def drop(self, session: Peer) -> None:
        """Close the connection of a peer that broke the rules."""
        self._pushes.append((session, None, None))
        self._wake()

    def disconnect(self, session: Peer) -> None:
        """Close a connection that its worker cannot use any more."""
        self.call(lambda: self._end(session))

    def stop(self) -> None:
        self._stopping = True
        self._wake()

    def after_fork_in_child(self) -> None:
        """Release the parent's connections. Takes no lock, because a thread may have held it."""
        for session in list(self.sessions):
            session.close()
        self._selector.close()
        os.close(self._spare)
        os.close(self._wakeup)

    def _wake(self) -> None:
        with self._wakeup_lock:
            if self._wakeup >= 0:  # otherwise `run` has ended
                os.eventfd_write(self._wakeup, 1)

    def run(self) -> None:
        try:
            while not self._stopping:
                for key, events in self._selector.select(self._patience()):
                    if key.fileobj is self._listener:
                        self._accept(self._listener)
                    elif key.fd == self._wakeup:
                        self._send_pushes()
                        self._do_calls()
                    elif key.data in self.sessions:
                        self._serve(key.data, events)
                for session in list(self._backlog):
                    if session in self.sessions:
                        self._take_turn(session)
                for regular in self._regular:
                    regular.do_if_due()
                self._end_silent()
            self._send_pushes()  # messages of the last completions
        finally:
            for session in list(self.sessions):
                self._end(session)
            self._selector.close()
            os.close(self._spare)
            with self._wakeup_lock:
                os.close(self._wakeup)
                self._wakeup = -1

    def _patience(self) -> float | None:
        if self._backlog:
            return 0
        times = [*list(self._silent.values())[:1], *(regular.latest for regular in self._regular)]
        return max(0.0, min(times) - monotonic()) if times else None

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            _log.error("refused a worker's connection: %s (raise `ulimit -n`)", error)
            self._refuse(listener)
            return
        sock.setblocking(False)
        pid, uid = control.peer_of(sock)
        session = Peer(sock, pid, uid)
        if not self._access.admits(sock, uid):
            self._turn_away(session, "see allow_uid")
            return
        session.one_too_many = self._peers.add(pid, uid)
        if session.one_too_many:
            if self._refused >= _MAX_REFUSED:  # they are closed without the reason that the first ones get
                self._peers.remove(pid, uid)
                self._turn_away(session, session.one_too_many)
                return
            self._refused += 1
        self._silent[session] = monotonic() + SECONDS_TO_HELLO
        self.sessions.add(session)
        self._selector.register(sock, selectors.EVENT_READ, session)

    def _turn_away(self, session: Peer, why: str) -> None:
        if self._peers.may_be_logged(session.uid):
            _log.warning("refused pid %d of uid %d: %s", session.pid, session.uid, why)
        session.close()

    def _end_silent(self) -> None:
        now = monotonic()
        for session, limit in list(self._silent.items()):
            if limit > now:
                break
            self._end(session, ProtocolError(f"it did not say hello within {SECONDS_TO_HELLO:g} s"))

    def _refuse(self, listener: socket.socket) -> None:
        """Out of descriptors: close the pending connection, otherwise the listener stays readable and this thread
        spins."""
        os.close(self._spare)
        try:
            listener.accept()[0].close()
        except OSError:
            pass
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _serve(self, session: Peer, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._flush(session)
            if events & selectors.EVENT_READ and session not in self._backlog:
                session.alive = session.decoder.receive(session.sock)
                self._backlog[session] = None
        except BlockingIOError:
            pass
        except (OSError, ProtocolError) as error:
            self._end(session, error)

    def _take_turn(self, session: Peer) -> None:
        """Handle one received message; if none is left, read the peer's socket again."""
        try:
            item = session.decoder.next_message()
            if item is not None:
                self._handle(session, *item)
                self._flush(session)
            elif session.alive:
                self._backlog.pop(session, None)
            else:
                self._end(session)
        except BlockingIOError:
            pass
        except (OSError, ProtocolError) as error:
            self._end(session, error)
        except Exception as error:
            _log.exception("a message of pid %d cannot be handled", session.pid)
            self._end(session, error)

    def _handle(self, session: Peer, message: Message, fds: list[int]) -> None:
        for fd in fds:
            control.close(fd)  # no request carries descriptors
        op, number = message.get("op"), message.get("id")
        handler = self._handlers.get(op) if isinstance(op, str) else None
        if handler is None or not (session.greeted or op == "hello"):
            raise ProtocolError(f"pid {session.pid} sent op {str(op)[:40]!r}")
        if not isinstance(number, (int, NoneType)) or (number is None and op not in _UNANSWERED):
            raise ProtocolError(f"pid {session.pid} sent op {op!r} with the id {str(number)[:40]!r}")
        segment: Segment | DuplicatedFd | None = None
        try:
            answer = handler(session, message)
            if answer is None:
                return
            reply, segment = answer
        except ProtocolError:
            raise
        except BrokerError as error:
            reply = control.error_fields(error)
        if number is not None:
            session.queue({**reply, "re": number}, segment)
        elif segment is not None:
            segment.close_fd()

    def _hello(self, session: Peer, message: Message) -> Reply:
        theirs: Any = message.get("protocol")
        if theirs != PROTOCOL:
            raise BrokerError(
                f"the worker speaks protocol {str(theirs)[:40]}, this broker {PROTOCOL}: "
                "install the same version of onesession on both sides"
            )
        if session.one_too_many:
            raise Overloaded(session.one_too_many)
        session.greeted = True
        self._silent.pop(session, None)
        return {"protocol": PROTOCOL, "pid": os.getpid()}, None

    def _flush(self, session: Peer) -> None:
        wanted = selectors.EVENT_READ if session.flush() else selectors.EVENT_READ | selectors.EVENT_WRITE
        self._selector.modify(session.sock, wanted, session)

    def _send_pushes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wakeup)
        while self._pushes:
            session, message, segment = self._pushes.popleft()
            if session not in self.sessions:
                if segment is not None:
                    segment.close_fd()
                continue
            try:
                if message is None:
                    raise ProtocolError(f"pid {session.pid} broke the rules of its channel")
                session.queue(message, segment)
                self._flush(session)
            except (OSError, ProtocolError) as error:
                self._end(session, error)

    def _do_calls(self) -> None:
        while self._calls:
            self._calls.popleft()()

    def _end(self, session: Peer, error: Exception | None = None) -> None:
        if session not in self.sessions:
            return
        if error is not None and not isinstance(error, ConnectionError):
            _log.warning("closed the connection of pid %d: %s", session.pid, error)
        self._peers.remove(session.pid, session.uid)
        self._refused -= bool(session.one_too_many)
        self._silent.pop(session, None)
        self.sessions.remove(session)
        self._backlog.pop(session, None)
        self._selector.unregister(session.sock)
        session.close()
        self._on_end(session)
