"""One request in flight, as the broker sees it. Everything read from the slot is checked before use.

The intake owns a slot from `Channel.take` on, then the runner to which it is routed; the post in `_hand_back` returns
it to the worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from broker.counters.failures import LATE_COMPLETION, SignatureKey
from broker.counters.thread_counters import Stamps
from broker.data_plane.prepared import PreparedRequest, PreparedStringRequest, check_against
from broker.data_plane.region import InputRegion, Key, OutputRegion, Places
from broker.data_plane.served_signature import ServedSignature
from broker.data_plane.strings import encoded
from broker.scheduling import request
from worker_client.ipc.semaphore import Closed, Semaphore
from worker_client.system.clock import monotonic_ns
from worker_client.wire.errors import (
    STATUS_OK,
    BrokerError,
    InvalidInput,
    ModelFailed,
    ModelNotFound,
    StaleSignature,
    status_of,
)
from worker_client.wire.layout import (
    ANSWER_SEQUENCE,
    ANSWER_SIGNATURE,
    BATCH_ROWS,
    BULK,
    CANCELLED,
    COMPLETED_NS,
    DEADLINE_NS,
    DONE,
    FINISHED_NS,
    HELD,
    INPUT_BYTES,
    NOTIFY,
    NOTIFY_BELL,
    NOTIFY_EVENT,
    OUTPUT_BYTES,
    OUTPUT_HEAD,
    OUTPUT_REGION,
    SEQUENCE,
    SIGNATURE,
    STARTED_NS,
    STATUS,
    SUBMITTED_NS,
    TAKEN_NS,
    WAITING,
    WAITING_POLLS,
)
from worker_client.wire.strings import place_behind
from worker_client.wire.tensors import MAX_TABLE, TensorLayout, lay_out, read_table, views

if TYPE_CHECKING:
    from broker.data_plane.channel import Channel

_UNNUMBERED = 1  # replaces the sequence 0, which no client writes
_MOST_QUEUED_NS = 3_600_000_000_000  # limit for the time in the ring that a worker's stamps may claim


class Slot(request.QueuedRequest):
    __slots__ = (
        "_first",
        "channel",
        "completed",
        "deadline_ns",
        "held",
        "index",
        "input",
        "key",
        "notify",
        "output",
        "prepared",
        "signature_id",
        "stamps",
        "taken_ns",
        "use",
        "words",
        "worker",
        "worker_polls",
    )

    prepared: PreparedRequest

    def __init__(
        self,
        channel: Channel,
        index: int,
        header: memoryview,
        input: memoryview,
        output: memoryview,
        completed: Semaphore,
    ) -> None:
        self.channel = self.worker = channel
        self.index = index
        self.key = channel.number, index  # a thread of a worker tends to use the same slot again
        self.words = header.cast("Q")
        self.input = InputRegion(input)
        self.output = OutputRegion(1, output)
        self._first = input, output
        self.completed = completed
        self.use = 0  # the sequence that was read, while the broker owns the slot
        self.signature_id = 0  # as in the request line
        self.held = False  # waits for room in its model's queue
        self.deadline_ns = 0
        self.notify = 0
        self.taken_ns = 0
        self.stamps: Stamps = [0, 0, 0]  # a new list for each use, so that it can still be counted later
        self.worker_polls = False

    def __repr__(self) -> str:
        return f"<Slot {self.index} of {self.channel!r} {'busy' if self.busy else 'free'}>"

    def go_back(self) -> int:
        """Use the first regions again, and return the number of the output region. Only while the worker owns the
        slot."""
        self.input = InputRegion(self._first[0])
        self.output = OutputRegion(self.output.number + 1, self._first[1])
        return self.output.number

    # -- taking --------------------------------------------------------------------------------------------------

    def accept(self, served_signatures: Sequence[ServedSignature | None], now_ns: int) -> bool:
        """Read the request, and find or make its prepared request. False if it was refused and answered with an
        error."""
        words = self.words
        self.use = words[SEQUENCE] or _UNNUMBERED
        self.deadline_ns = words[DEADLINE_NS]
        self.notify = words[NOTIFY]
        submitted_ns = words[SUBMITTED_NS]
        queued = 0 <= now_ns - submitted_ns < _MOST_QUEUED_NS  # otherwise the stamp is wrong
        self.stamps = [submitted_ns if queued else now_ns, now_ns, 0]
        self.taken_ns = now_ns
        self.worker_polls = words[WAITING] == WAITING_POLLS
        nbytes = words[INPUT_BYTES]
        region = self.input  # the control thread may set another at any time, if the worker asks for one
        self.signature_id = words[SIGNATURE]
        key = self.signature_id, region.memory[: nbytes if nbytes <= MAX_TABLE else 0].tobytes()
        prepared = region.prepared_requests.get(key)
        if prepared is None:
            try:
                prepared = _plan_for(key, region, served_signatures, self.channel.sessions)
            except BrokerError as error:
                self._refuse(error, key[0] & ~BULK, served_signatures)
                return False
        self.prepared = prepared
        return True

    def _refuse(
        self, error: BrokerError, number: int, served_signatures: Sequence[ServedSignature | None]
    ) -> None:
        served = served_signatures[number] if 0 < number < len(served_signatures) else None
        self._fail(SignatureKey() if served is None else served.signature_key, error)

    def unwanted(self, now_ns: int) -> bool:
        """True if the caller no longer waits for the answer."""
        if now_ns >= self.deadline_ns or self.channel.closed:
            return True
        return bool(self.words[CANCELLED] == self.use)

    def forget_requests(self, served_signatures: Sequence[ServedSignature | None]) -> None:
        """Drop prepared requests whose number now means another signature. Called on the intake thread only."""
        known: tuple[dict[Key, Any], ...] = self.input.prepared_requests, self.input.string_requests
        for prepared_requests in known:
            for key, prepared in list(prepared_requests.items()):
                if served_signatures[key[0] & ~BULK] is not prepared.served:
                    prepared_requests.pop(key, None)
        if not self.busy and hasattr(self, "prepared") and self.prepared.served not in served_signatures:
            del self.prepared

    @property
    def busy(self) -> bool:
        """Whether the broker owns the slot: it was taken, and not handed back."""
        return self.use != 0

    @property
    def slot(self) -> Slot:
        """The slot itself, as parts of a request also have one."""
        return self

    # -- waiting -------------------------------------------------------------------------------------------------

    def hold(self, held: bool) -> None:
        """Also show it to the worker, which can then say why if its deadline passes."""
        if held or monotonic_ns() < self.deadline_ns:
            self.held = held
            self.words[HELD] = self.use if held else 0

    # -- completing ---------------------------------------------------------------------------------------------- `use`
    # is the slot's use when the batch was formed, or the request split: a slot that was handed back since then belongs
    # to its worker, or holds another request.

    def complete(
        self, use: int, outputs: Sequence[Any], started_ns: int, finished_ns: int, batch_rows: int
    ) -> None:
        """Copy the outputs into the output region and hand the slot back."""
        if use != self.use:
            self._refuse_late(use, "an answer")
            return
        prepared = self.prepared
        single = len(outputs) == 1  # as most models; cheaper without a loop
        if single:
            found = self.output.places.get((prepared.entry_id, outputs[0].shape))
        else:
            found = self.output.places.get((prepared.entry_id, *[array.shape for array in outputs]))
        if found is None:
            try:
                if prepared.served.gives_strings:
                    outputs = encoded(outputs, prepared.served.entry.signature)
                found = self.places_for([array.shape for array in outputs], outputs)
            except BrokerError as error:
                self.fail(use, error)
                return
        layout, targets = found
        if single:
            targets[0][...] = outputs[0]
        else:
            for target, array in zip(targets, outputs):
                target[...] = array
        self.finish(use, layout, started_ns, finished_ns, batch_rows)

    def finish(
        self, use: int, layout: TensorLayout, started_ns: int, finished_ns: int, batch_rows: int
    ) -> None:
        """Hand the slot back with the outputs that were put into the views of this layout."""
        if use != self.use:
            self._refuse_late(use, "an answer")
            return
        words, region = self.words, self.output
        head = region.head  # same as `sign`, without the call
        head[ANSWER_SEQUENCE] = use
        head[ANSWER_SIGNATURE] = self.signature_id
        if region.laid_out is not layout:
            region.write(layout.table)
            words[STATUS] = STATUS_OK
            words[OUTPUT_BYTES] = len(layout.table)
            words[OUTPUT_REGION] = region.number
            region.laid_out = layout
        words[BATCH_ROWS] = batch_rows
        words[STARTED_NS] = started_ns
        words[FINISHED_NS] = finished_ns
        words[TAKEN_NS] = self.taken_ns
        self.stamps[2] = words[COMPLETED_NS] = monotonic_ns()
        self._hand_back()

    def fail(self, use: int, error: BrokerError) -> None:
        """Hand the slot back with an error, its message in the output region."""
        if use != self.use:
            self._refuse_late(use, f"the error {str(error)[:200]!r}")
            return
        self._fail(self.prepared.served.signature_key, error)

    def _refuse_late(self, use: int, what: str) -> None:
        self.channel.failures.fault(
            LATE_COMPLETION,
            f"{what} to use {use} of {self!r} came after it had been handed back; nothing was written",
        )

    def _fail(self, signature_key: SignatureKey, error: BrokerError) -> None:
        if isinstance(error, StaleSignature):  # not a failure: the next version runs the call
            self._answer_error(error, str(error))
            return
        self.channel.failures.add(signature_key, error, self.channel.pid)
        names_it = signature_key.model and isinstance(error, (InvalidInput, ModelFailed))
        self._answer_error(error, f"{signature_key}: {error}" if names_it else str(error))

    def _answer_error(self, error: BrokerError, message: str) -> None:
        region = self.output
        text = message.encode("utf-8", "replace")[: len(region.memory) - OUTPUT_HEAD]
        region.sign(self.use, self.signature_id)
        region.write(text)
        region.laid_out = None
        self.held = False
        words = self.words
        words[STATUS] = status_of(error)
        words[OUTPUT_BYTES] = len(text)
        words[OUTPUT_REGION] = region.number
        words[TAKEN_NS] = self.taken_ns
        words[COMPLETED_NS] = monotonic_ns()
        self._hand_back()

    def _hand_back(self) -> None:
        """Return the slot to its worker. Nothing may touch the slot afterwards."""
        use, self.use = self.use, 0
        self.words[DONE] = use
        try:
            self.completed.release()  # SYNC completed
            if self.notify == NOTIFY_BELL:
                self.channel.bell.release()
            elif (
                self.notify == NOTIFY_EVENT and (event := self.channel.event) is not None and not event.set()
            ):
                self.channel.disconnect()  # the worker's end is closed: it would never see its answers
        except (OSError, Closed):  # a worker that meddles with its semaphores, or is gone and disposed of
            self.channel.closed = True

    def places_for(self, shapes: Sequence[tuple[int, ...]], outputs: Sequence[Any] = ()) -> Places:
        """The places of outputs of these shapes, in a larger region if needed. Raises BrokerError.

        Strings among the `outputs` get a place by their content; the result is then valid for these outputs only.
        """
        served = self.prepared.served
        specs = served.entry.signature.outputs
        try:
            tensors = [(spec.dtype, shape) for spec, shape in zip(specs, shapes, strict=True)]
            layout = lay_out(tensors, OUTPUT_HEAD)
        except (TypeError, ValueError) as error:
            raise ModelFailed(f"the model's outputs cannot be sent: {error}") from None
        nbytes = place_behind(layout.nbytes, outputs)
        if nbytes > len(self.output.memory):
            self._grow_output(nbytes)
        found = self.output.places_for(layout)
        if not served.gives_strings:
            self.output.remember((self.prepared.entry_id, *shapes), found)
        return found

    def _grow_output(self, nbytes: int) -> None:
        """Take a larger output region and send it to the worker, which uses it when the completion names it."""
        number = self.output.number + 1
        self.output = OutputRegion(number, self.channel.new_output(self, nbytes, number))


def _plan_for(
    key: Key, region: InputRegion, served_signatures: Sequence[ServedSignature | None], sessions: bool = True
) -> PreparedRequest:
    """Check the request in the region and prepare it. Raises BrokerError."""
    number, table = key[0] & ~BULK, key[1]
    served = served_signatures[number] if 0 < number < len(served_signatures) else None
    if served is None:
        if 0 < number < len(served_signatures):
            raise StaleSignature(f"signature {number} is no longer served")
        raise ModelNotFound(f"no model has the signature id {number}; attach again")
    if served.entry.session and not sessions:
        raise ModelNotFound(f"signature {number} belongs to a session, and this worker may not call it")
    known = region.string_requests.get(key)
    if known is not None:
        return known.measure()
    try:
        placements = read_table(table, len(region.memory))
    except ValueError as error:
        raise InvalidInput(f"the request cannot be read: {error}") from None
    check_against(served.entry.signature, placements)
    level = request.BULK if key[0] & BULK else request.INTERACTIVE
    made = PreparedStringRequest if served.takes_strings else PreparedRequest
    prepared = made(served, level, views(placements, region.memory))
    region.remember(key, prepared)
    return prepared
