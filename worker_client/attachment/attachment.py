"""What a process holds of a broker it is attached to: memory, ring and control connection; and the errors of calls when
these have ended.

All of it belongs to the process that attached. In forked children it is closed, because `alive` is wiped there.
"""

from __future__ import annotations

import errno
import threading

from worker_client.attachment import last_run
from worker_client.attachment.link import ControlLink, Received, seconds_left
from worker_client.attachment.listeners import Listener, Listeners
from worker_client.attachment.model_cache import ModelCache
from worker_client.attachment.retry_policy import BrokerLost, ForeignAnswer, NoReply
from worker_client.attachment.slot import Slot
from worker_client.ipc import semaphore
from worker_client.ipc.event import Event
from worker_client.ipc.ring import RingProducer
from worker_client.ipc.segment import Segment
from worker_client.system import fork
from worker_client.system.descriptor import Descriptor
from worker_client.system.limits import check_room, no_descriptor
from worker_client.system.threads import Mutex
from worker_client.wire import control
from worker_client.wire.errors import BrokerError, BrokerUnavailable, DeadlineExceeded
from worker_client.wire.layout import BULK


class Attachment:
    """Of one process to one broker."""

    def __init__(self, link: ControlLink, reply: control.Message, fd: Descriptor, deadline_ns: int) -> None:
        self._link = link
        self._segments = [self._mapped(fd, reply["nbytes"])]
        self.alive = fork.new_word()  # 0 when it is closed, and in a child: what every call looks at first
        self.process = link.process
        self.epoch: int = reply["epoch"]
        self.model_cache = ModelCache(reply["models"])
        self.run_once: dict[int, str] = {}  # stateful signatures that were bound, with what a run does
        self.run_limits: dict[int, tuple[str, float]] = {}  # all that were bound: name, max_run_seconds
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
        # A signal handler may call while its thread holds it, at moments when another push does no harm.
        self._push_lock = Mutex()

    @property
    def open(self) -> bool:
        return self.alive[0] != 0

    @property
    def ours(self) -> bool:
        """False in a child of the process that attached."""
        return self.process.word[0] != 0

    def ask_for_models(self, timeout: float | None) -> None:
        """Bring the model cache up to date."""
        reply, _ = self._link.request({"op": "models"}, timeout)
        self.model_cache.update(reply["models"])

    def open_event(self, deadline_ns: int) -> Event:
        """What calls with NOTIFY_EVENT set when they are done, run out of time or lose the broker. Raises BrokerLost if
        it was closed by somebody else."""
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
            with self._event_lock:  # two loops may have asked at a time
                event = self.event = self.event or event
        return event

    def join(self, listener: Listener) -> bool:
        """Have an event loop woken for its calls. True if it has to listen to the event itself."""
        itself = self.listeners.join(listener)
        if not itself and (event := self.event) is not None:
            self._link.watch_event(event)
        return itself

    def arm(self, deadline_ns: int) -> bool:
        """Have `Channel.expire` called at `deadline_ns` at the latest. False if nobody can: the channel is retired."""
        return deadline_ns >= self._link.next_wake_ns or self._link.arm(deadline_ns)

    def _ask(
        self, message: control.Message, deadline_ns: int, brings: bool = False
    ) -> tuple[control.Message, Received]:
        """Over the control socket, for a call that is attached. Raises DeadlineExceeded, and what the broker says;
        Overloaded where the answer `brings` a descriptor and there is no number left for it."""
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
            self._ask({"op": "status"}, deadline_ns)  # raises BrokerLost if the broker took it along
            raise

    def _mapped(self, descriptor: Descriptor, nbytes: int) -> Segment:
        try:
            return Segment.attach(descriptor, nbytes)
        except OSError as error:
            if error.errno != errno.EBADF:
                what = f"the memory of the broker at {self._link.path}"
                raise BrokerUnavailable(f"{what} cannot be mapped: {error.strerror}") from None
            self._link.lose()  # somebody closed it on its way from the watcher to us
            raise self._link.gone() from None

    # -- the end -------------------------------------------------------------------------------------------------------

    def gone(self, slot: Slot | None = None) -> BrokerError:
        """Why the channel is closed, for the call in `slot`: only one whose run had begun may have ended the broker."""
        if slot is None or not slot.busy:
            return self._link.gone()
        number = slot.signature_id & ~BULK
        began = last_run.began(slot.words)
        # What is stateful is rather not run than run twice: there, what was taken counts as begun.
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
        """For a call that the broker had taken."""
        return self._not_again(self._link.gone(ran=True), slot.signature_id)

    def answer_lost(self, slot: Slot) -> BrokerUnavailable:
        """The channel closed after an answer, and before the region that holds it came."""
        return self._gone_with(slot)

    def disconnected(self) -> BrokerError:
        """The broker has dropped a call without a run, as it ends the connection. Returns the call's error."""
        self.alive[0] = 0
        return self._link.gone()

    def break_off(self, why: str, signature_id: int) -> BrokerUnavailable:
        """An answer was not to what was asked: believe nothing more that comes here. Returns the call's error."""
        self.alive[0] = 0
        self._link.break_off(why)
        return self._not_again(ForeignAnswer(why), signature_id)

    def _not_again(self, error: BrokerUnavailable, signature_id: int) -> BrokerUnavailable:
        """The error of a call that may have been run: no BrokerLost, which has it run again, if it is stateful."""
        effects = self.run_once.get(signature_id & ~BULK)
        if effects is None or not isinstance(error, BrokerLost):
            return error
        return BrokerUnavailable(
            f"{error}; the call may have been run and is not run again, because {effects}"
        )
