"""A process's attachment to a broker: memory, ring and control connection, and the errors of calls after these have
ended.

An attachment belongs to the process that attached. In forked children it is closed, because the kernel wipes `alive`
there."""

from __future__ import annotations

import errno
import threading

from worker_client.attachment import last_run
from worker_client.attachment.link import ControlLink, Received, seconds_left
from worker_client.attachment.listeners import Listener, Listeners
from worker_client.attachment.model_cache import ModelCache
from worker_client.attachment.retry_policy import BrokerLost, ForeignAnswer, NoReply
from worker_client.attachment.slot import Slot
from worker_client.interpreter import fork
from worker_client.interpreter.threads import Mutex
from worker_client.ipc import semaphore
from worker_client.ipc.event import Event
from worker_client.ipc.ring import RingProducer
from worker_client.ipc.segment import Segment
from worker_client.system.descriptor import Descriptor
from worker_client.system.limits import check_room, no_descriptor
from worker_client.wire import control
from worker_client.wire.errors import BrokerError, BrokerUnavailable, DeadlineExceeded
from worker_client.wire.layout import BULK


class Attachment:
    """The attachment of one process to one broker."""

    def __init__(self, link: ControlLink, reply: control.Message, fd: Descriptor, deadline_ns: int) -> None:
        self._link = link
        self._segments = [self._mapped(fd, reply["nbytes"])]
        self.alive = fork.new_word()  # 0 when it is closed, and in a child; every call checks it first
        self.process = link.process
        self.epoch: int = reply["epoch"]
        self.model_cache = ModelCache(reply["models"])
        self.run_once: dict[int, str] = {}  # bound stateful signatures, with the effects of a run
        self.run_limits: dict[int, tuple[str, float]] = {}  # all bound signatures: name, max_run_seconds
        self.event: Event | None = None
        self._event_lock = threading.Lock()
        self.listeners = Listeners()  # event loops
        self.bell: semaphore.Semaphore = self._opened(reply["bell"], deadline_ns)
        self._words = self._segments[0].bytes.cast("Q")
        self._ring = RingProducer(
            self._words,
            self._opened(reply["submitted"], deadline_ns),
            self._opened(reply["doorbell"], deadline_ns),
        )
        # A signal handler may push while its thread holds this lock, but only at moments when a second push does no
        # harm.
        self._push_lock = Mutex()

    @property
    def open(self) -> bool:
        return self.alive[0] != 0

    @property
    def ours(self) -> bool:
        """Whether this is the process that attached; False in its children."""
        return self.process.word[0] != 0

    def ask_for_models(self, timeout: float | None) -> None:
        """Bring the model cache up to date."""
        reply, _ = self._link.request({"op": "models"}, timeout)
        self.model_cache.update(reply["models"])

    def open_event(self, deadline_ns: int) -> Event:
        """The event that is set when calls with NOTIFY_EVENT are done, run out of time or lose the broker. Raises
        BrokerLost if other code closed it."""
        event = self.event
        if event is not None and not event.ours:
            self._link.lose()
            raise self.gone()
        if event is None:
            _, received = self._ask({"op": "event"}, deadline_ns, brings=True)
            if received[-1].missing:
                raise no_descriptor("the event of the loop")
            event = Event(received[-1])
            event.otherwise = self._link.lose
            with self._event_lock:  # two loops may have asked at the same time
                event = self.event = self.event or event
        return event

    def join(self, listener: Listener) -> bool:
        """Arrange that an event loop is woken for its calls. True if the loop has to listen to the event itself."""
        itself = self.listeners.join(listener)
        if not itself and (event := self.event) is not None:
            self._link.watch_event(event)
        return itself

    def arm(self, deadline_ns: int) -> bool:
        """Arrange that `Channel.expire` is called at `deadline_ns` at the latest. False if that is impossible: the
        channel is retired."""
        return deadline_ns >= self._link.next_wake_ns or self._link.arm(deadline_ns)

    def _ask(
        self, message: control.Message, deadline_ns: int, brings: bool = False
    ) -> tuple[control.Message, Received]:
        """Send a request over the control socket for an attached call. Raises DeadlineExceeded and the errors that the
        broker reports; Overloaded if the answer `brings` a descriptor and this process has no descriptor number left.
        """
        if brings:
            check_room(f"the answer to {message['op']!r}")
        try:
            return self._link.request(message, seconds_left(deadline_ns))
        except NoReply as error:
            raise DeadlineExceeded(str(error)) from None

    def _opened(self, name: str, deadline_ns: int) -> semaphore.WaitableSemaphore:
        try:
            return semaphore.attach(name)
        except semaphore.NoSuchSemaphore:
            # raises BrokerLost if the broker has ended and removed it
            self._ask({"op": "status"}, deadline_ns)
            raise

    def _mapped(self, descriptor: Descriptor, nbytes: int) -> Segment:
        try:
            return Segment.attach(descriptor, nbytes)
        except OSError as error:
            if error.errno != errno.EBADF:
                what = f"the memory of the broker at {self._link.path}"
                raise BrokerUnavailable(f"{what} cannot be mapped: {error.strerror}") from None
            self._link.lose()  # other code closed it on its way from the watcher to this thread
            raise self._link.gone() from None

    # -- the end -------------------------------------------------------------------------------------------------------

    def gone(self, slot: Slot | None = None) -> BrokerError:
        """Why the channel is closed, for the call in `slot`: only a call whose run had begun may have ended the
        broker."""
        if slot is None or not slot.busy:
            return self._link.gone()
        number = slot.signature_id & ~BULK
        began = last_run.began(slot.words)
        # A stateful call must not run twice, so it counts as begun as soon as the broker has taken it.
        ran = began or (number in self.run_once and self._ring.is_taken(slot))
        error = self._link.gone(ran)
        if not ran or not isinstance(error, BrokerLost):
            return error
        if began:
            error.verdict = last_run.without_end(slot.words, *self.run_limits.get(number, ("", 0.0)))
            if error.verdict is not None and last_run.was_alone(slot.words, slot.sequence):
                return error.verdict
        return self._not_again(error, slot.signature_id)

    def _gone_with(self, slot: Slot) -> BrokerUnavailable:
        """The error of a call that the broker had taken."""
        return self._not_again(self._link.gone(ran=True), slot.signature_id)

    def answer_lost(self, slot: Slot) -> BrokerUnavailable:
        """The error of a call that was answered, but whose output region had not arrived when the channel closed."""
        return self._gone_with(slot)

    def disconnected(self) -> BrokerError:
        """The broker dropped a call without running it, because it ends the connection. Returns the call's error."""
        self.alive[0] = 0
        return self._link.gone()

    def break_off(self, why: str, signature_id: int) -> BrokerUnavailable:
        """Close the channel, because an answer belongs to another request: nothing on it can be trusted. Returns the
        call's error."""
        self.alive[0] = 0
        self._link.break_off(why)
        return self._not_again(ForeignAnswer(why), signature_id)

    def _not_again(self, error: BrokerUnavailable, signature_id: int) -> BrokerUnavailable:
        """The error of a call that may have been run. If it is stateful, that is not BrokerLost, which would run it
        again."""
        effects = self.run_once.get(signature_id & ~BULK)
        if effects is None or not isinstance(error, BrokerLost):
            return error
        return BrokerUnavailable(
            f"{error}; the call may have been run and is not run again, because {effects}"
        )
