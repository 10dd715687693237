"""The handle on one served model: what an app calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from time import sleep
from typing import TYPE_CHECKING, Any, Final, Literal, overload

import numpy as np

from worker_client import timeouts
from worker_client.attachment.metadata import ModelInfo, SignatureInfo, VersionLoading
from worker_client.attachment.model_cache import Models
from worker_client.attachment.retry_policy import Attempts, BrokerLost
from worker_client.binding import Binding, copied, input_shapes
from worker_client.calls import mapping
from worker_client.calls.futures import CallFuture, PendingCall
from worker_client.calls.keras import IN_FLIGHT, Parts, check_call
from worker_client.calls.progress import counted, of_verbose, over
from worker_client.calls.string_inputs import validator_of
from worker_client.calls.timings import Timings
from worker_client.interpreter.face import face
from worker_client.request import Request
from worker_client.system import limits
from worker_client.system.clock import monotonic_ns
from worker_client.wire.errors import BrokerError, InvalidInput, ModelFailed, ModelNotFound
from worker_client.wire.layout import BULK, NO_DEADLINE
from worker_client.wire.signature import Signature, TensorSpec, label_of

if TYPE_CHECKING:
    from worker_client.connection import Connection

Priority = Literal["interactive", "bulk"]
INTERACTIVE_PRIORITY: Final = "interactive"
PRIORITIES = {INTERACTIVE_PRIORITY: 0, "bulk": BULK}
"""Each priority with the number that it adds to the signature's id in a request."""


_COMING_NS = 10_000_000
"""How often to check whether the version that a call waits for is loaded."""

_PLUMBING = frozenset(
    ("attempts", "bind", "bound", "bound_by", "deadline", "missed", "models_changed", "options", "unbind")
)


class Model:
    """One model at one signature. It is cheap to make, thread-safe and usable in children forked later. It is a value:
    it can be copied and pickled at any time, without its `on_answer`.

    The broker is not contacted before the first call. Every call can raise InvalidInput (nothing was sent),
    DeadlineExceeded, Overloaded, BrokerUnavailable, ModelNotFound and ModelFailed.
    """

    def __init__(
        self,
        connection: Connection,
        name: str,
        version: int | str | None,
        signature: str | None,
        timeout: float | None,
        priority: str = INTERACTIVE_PRIORITY,
        retries: int = 1,
        strict: bool = False,
    ) -> None:
        self.name = name
        self.version = version
        self.signature_name = signature
        self.priority = _checked_priority(priority)
        self.attempts = Attempts(retries)
        self.strict = strict
        self.on_answer: Callable[[Timings], object] | None = None
        """Called with the timings of each answer to `predict`, on the thread that waited for the answer."""
        self._given_timeout = timeout
        self._seconds = timeout or timeouts.DEFAULT_SECONDS  # default timeout of a call, once bound
        self._connection = connection
        self._binding: Binding | None = None

    def copy(self) -> Model:
        """Another handle on the same model, with its own `on_answer`."""
        return type(self)(self._connection, *self.options)

    @property
    def options(self) -> tuple[Any, ...]:
        """The values, besides the connection, that the handle is made of and that its copies share."""
        given = self.version, self.signature_name, self._given_timeout
        return self.name, *given, self.priority, self.retries, self.strict

    @property
    def retries(self) -> int:
        """How often a call is run again if its broker goes away while it runs."""
        return self.attempts.retries

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._connection, *self.options)

    def __repr__(self) -> str:
        return f"<Model {self._described()} at {self._connection.path}>"

    def __dir__(self) -> list[str]:
        return face(super().__dir__(), _PLUMBING)

    def _described(self) -> str:
        """Name, version and signature: as requested before the first call, as the broker reports them after it."""
        binding = self._binding
        if binding is not None:
            validator = binding.validator
            return f"{validator.label.removeprefix('model ').partition(',')[0]}, {validator.signature}"
        version = "" if self.version is None else f" version {self.version!r}"
        signature = "" if self.signature_name is None else f", signature {self.signature_name!r}"
        return f"{self.name!r}{version}{signature}"

    @property
    def signature(self) -> Signature:
        """Names, dtypes and shapes of inputs and outputs."""
        return self.bound_by(None)[0].validator.signature

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs of the signature."""
        return self.signature.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs of the signature."""
        return self.signature.outputs

    @property
    def current_version(self) -> int:
        """The number of the version that a call would get now, as the broker last reported it. The broker reports a new
        version as soon as it takes calls, so for a moment a call may already get the new one."""
        self.bound_by(None)
        return self._info().called(self.version).version

    @property
    def timeout(self) -> float:
        """The default timeout of a call in seconds. Asks the broker for the model's own timeout if needed."""
        return self._given_timeout or timeouts.implied(self._info().timeout)

    @overload
    def predict(
        self,
        inputs: Mapping[str, Any],
        batch_size: int | None = None,
        verbose: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        *,
        timeout: float | None = None,
        **others: Any,
    ) -> dict[str, np.ndarray]: ...

    @overload
    def predict(
        self,
        inputs: Any,
        batch_size: int | None = None,
        verbose: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        *,
        timeout: float | None = None,
        **others: Any,
    ) -> np.ndarray: ...

    def predict(
        self,
        inputs: Any,
        batch_size: int | None = None,
        verbose: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        *,
        timeout: float | None = None,
        **others: Any,
    ) -> Any:
        """Run the model on `inputs` and return private copies of its outputs.

        `inputs` is an ndarray (or anything numpy can convert to one) for a signature with one input, else {name:
        array}; the first dimension counts rows. Other dtypes of the same kind are cast as they are copied (float64 or
        uint8 to float32; never a float to an integer), unless the handle is `strict`. Inputs with a default may be left
        out; if only one input has no default, an array stands for that input. The answer is an ndarray if an array went
        in and the signature has one output, else {name: ndarray}. Type checkers see an array as the answer to an array;
        if a model has several outputs, pass a dict of inputs. `timeout` in seconds overrides the client's.

        `batch_size`, `verbose` and `steps` are as in `keras.Model.predict`: more rows than `batch_size` are sent as
        several requests, a few at a time, and returned as one answer; `steps` limits the number of requests; `verbose`
        1 shows a bar of them, 2 a line at the end, "auto" a bar on a terminal, None or 0 nothing. Without a
        `batch_size` all rows are one request. Other arguments of Keras raise InvalidInput.
        """
        if batch_size is not None or steps is not None or callbacks is not None or others or verbose:
            known, deadline = self.bound_by(timeout)
            parts = Parts(known.validator, inputs, batch_size, steps, callbacks, others)
            if verbose or not parts.whole:
                return self._predict_parts(parts, inputs, verbose, deadline)
        binding = self._binding
        if binding is None or not binding.channel.alive[0]:
            binding, deadline = self.bound_by(timeout)
        else:
            deadline = self.deadline(timeout)
        attempts = self.attempts
        while True:
            try:
                channel = binding.channel
                arrays, layout = binding.validator.prepare(inputs)
                slot = channel.claim(layout.nbytes, deadline)
                try:
                    views = slot.input.write_layout(layout)
                    if len(arrays) == 1:  # the usual case; without a loop it costs half as much
                        views[0][...] = arrays[0]
                    else:
                        for view, array in zip(views, arrays):
                            view[...] = array
                    channel.submit(slot, binding.id, deadline)
                    channel.wait(slot, deadline)
                    outputs = slot.result()
                    if self.on_answer is not None:
                        self.on_answer(Timings.of(slot))
                    return copied(binding, outputs, inputs)
                finally:
                    channel.release(slot)
            except BrokerLost as lost:
                attempts = attempts.after(lost)
                binding = self.bind(deadline)
            except MemoryError as error:
                raise limits.no_memory(error) from None

    def _predict_parts(self, parts: Parts, inputs: Any, verbose: Any, deadline_ns: int) -> Any:
        """Several requests for one call, or a single one whose end is shown."""
        shown = of_verbose(verbose, self.name, len(parts))
        if parts.whole:
            answers: Iterator[Any] = (self.predict(each, timeout=left_s(deadline_ns)) for each in (inputs,))
            (answer,) = over(answers, lambda: shown)
            return answer
        return parts.join(over(mapping.ordered(self._sender(deadline_ns), parts, IN_FLIGHT), lambda: shown))

    @overload
    def __call__(
        self, inputs: Mapping[str, Any], training: bool | None = None, mask: Any = None
    ) -> dict[str, np.ndarray]: ...

    @overload
    def __call__(self, inputs: Any, training: bool | None = None, mask: Any = None) -> np.ndarray: ...

    def __call__(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Call `predict(inputs)`, so that the handle can be called like a Keras model. Raises InvalidInput if
        `training` is true."""
        check_call(training, mask)
        return self.predict(inputs)

    def request(self, rows: int | None = 1, shapes: dict[str, tuple[int, ...]] | None = None) -> Request:
        """A request whose inputs are written in place, in shared memory, and whose results are read there.

        `rows` sets the free first dimension of every input; `shapes` gives whole shapes by input name if another
        dimension is free as well. An input with a default has the shape of the default, unless `shapes` gives another,
        and is filled with it. Use the request in a `with` block. Raises InvalidInput if a dimension remains free.
        """
        binding, _ = self.bound_by(None)
        layout = binding.validator.layout_of(input_shapes(binding.validator, rows, shapes or {}))
        return Request(binding, self.bind, layout, self._seconds, self.attempts)

    def submit(self, inputs: Any, timeout: float | None = None) -> CallFuture:
        """Like `predict`, but returns a `concurrent.futures.Future` at once. Cancelling it cancels the request.

        Waits only if all of this worker's slots are in flight, at most until the deadline (then Overloaded).
        """
        _, deadline = self.bound_by(timeout)
        form: Any = {} if isinstance(inputs, Mapping) else None
        closings = self._connection.closings
        call = PendingCall(
            self._connection.run_again,
            lambda call: self._send_again(call, form, closings),
            inputs,
            deadline,
            self.attempts,
        )
        future = call.new_future()
        while True:
            try:
                self._send(call, form)
                return future
            except BrokerLost as lost:
                call.lose(lost)
            except MemoryError as error:
                raise limits.no_memory(error) from None

    def _sender(self, deadline_ns: int) -> Callable[[Any], CallFuture]:
        """`submit` for the parts of one call, which share its deadline."""
        return lambda inputs: self.submit(inputs, left_s(deadline_ns))

    def _send(self, call: PendingCall, form: Any) -> None:
        """Write the call's inputs into a slot and submit it. `form` decides the form of the answer."""
        binding = self.binding() or self.bind(call.deadline_ns)
        channel = binding.channel
        arrays, layout = binding.validator.prepare(call.inputs)
        slot = channel.claim(layout.nbytes, call.deadline_ns)
        before = call.inputs
        try:
            views = slot.input.write_layout(layout)
            for view, array in zip(views, arrays):
                view[...] = array
            sent = dict(
                zip(binding.validator.names, views)
            )  # the caller may change its own arrays from now on
            if binding.validator.defaults:  # the next version may have other defaults
                sent = {name: sent[name] for name in binding.validator.given(before)}
            call.inputs = sent
        except BaseException:
            channel.release(slot)
            raise
        call.finish = lambda outputs: copied(binding, outputs, form)
        try:
            channel.futures.submit(call, slot, binding.id)
        except BaseException:
            call.inputs = before
            raise

    def _send_again(self, call: PendingCall, form: Any, closings: int) -> None:
        """`_send` on the next broker. `closings`: the count when the call was made; the call fails if the client was
        closed since."""
        self._connection.channel(call.deadline_ns, closings=closings)
        if not call.cancelled:  # while it waited for the broker
            self._send(call, form)

    def map(
        self,
        batches: Iterable[Any],
        *,
        max_in_flight: int = 8,
        timeout: float | None = None,
        progress: bool = False,
    ) -> Iterator[Any]:
        """The answers to `batches`, in order. At most `max_in_flight` calls are under way, and at most as many batches
        are read ahead; each batch may have a different number of rows. The first error ends the iteration and cancels
        the remaining calls. `progress` shows a bar of tqdm, or of rich, if it is installed, else a line if standard
        error is a terminal."""
        answers = mapping.ordered(lambda inputs: self.submit(inputs, timeout), batches, max_in_flight)
        return counted(answers, self.name, batches) if progress else answers

    def map_unordered(
        self,
        batches: Iterable[Any],
        *,
        max_in_flight: int = 8,
        timeout: float | None = None,
        progress: bool = False,
    ) -> Iterator[tuple[int, Any]]:
        """Like `map`, but yields (index of the batch, answer) as the answers arrive."""
        answers = mapping.unordered(lambda inputs: self.submit(inputs, timeout), batches, max_in_flight)
        return counted(answers, self.name, batches) if progress else answers

    def missed(self, deadline_ns: int) -> BrokerError:
        """The error of a call whose deadline passed while another thread was attaching."""
        return self._connection.missed(deadline_ns, self.retries > 0)

    def deadline(self, timeout: float | None) -> int:
        seconds = self._seconds if timeout is None else timeouts.of_call(timeout)
        return NO_DEADLINE if seconds >= 1e9 else monotonic_ns() + int(seconds * 1e9)

    def binding(self) -> Binding | None:
        """This process's Binding, if it is attached and its broker is alive."""
        binding = self._binding
        return binding if binding is not None and binding.channel.alive[0] else None

    def bound_by(self, timeout: float | None) -> tuple[Binding, int]:
        """This process's Binding, made now if needed, and the deadline of a call that starts now."""
        binding = self.binding()
        if binding is not None:
            return binding, self.deadline(timeout)
        start = monotonic_ns()
        self._seconds = self._given_timeout or timeouts.implied(None)
        binding = self.bind(self.deadline(timeout))
        self._seconds = self.timeout
        return binding, self.deadline(timeout) - self._connection.spent_ns(start)

    def bind(self, deadline_ns: int) -> Binding:
        """A new Binding, on the current broker or one that starts before the deadline.

        The list that the broker last sent may be out of date, for example if the caller has just reloaded the model. So
        the broker is asked before a call is refused.
        """
        asked = False
        while True:
            try:
                channel = self._connection.channel(deadline_ns, self.retries > 0)
                updates = channel.model_cache.updates
                version, info = self._signature_info(deadline_ns)
            except BrokerLost as lost:
                self.attempts.after(lost)  # nothing was run
                continue
            except VersionLoading:
                if monotonic_ns() + _COMING_NS > deadline_ns:
                    raise
                sleep(_COMING_NS / 1e9)
                continue
            except (ModelNotFound, ModelFailed):  # missing or set aside, according to the last list
                if asked:
                    raise
                asked = True
                self._connection.doubt_models()
                continue
            outputs = tuple(spec.name for spec in info.signature.outputs)
            label = label_of(self.name, version, info.signature.name)
            channel.run_limits[info.id] = label, info.max_run_seconds  # before the first call that names it
            if info.stateful:
                channel.run_once[info.id] = f"{label} {info.stateful}"
            number = info.id + PRIORITIES[self.priority]
            validator = validator_of(self.name, version, info, self.strict)
            binding = self._binding = Binding(self._connection, channel, number, validator, outputs)
            if channel.model_cache.enter(self, updates):
                return binding

    def models_changed(self, before: Models, now: Models) -> None:
        """Bind again at the next call if this model has changed. Called on the watcher's thread."""
        if before.get(self.name) != now.get(self.name):
            self._binding = None

    def unbind(self) -> None:
        """Bind again at the next call."""
        self._binding = None

    def _info(self, deadline_ns: int | None = None) -> ModelInfo:
        deadline = self.deadline(None) if deadline_ns is None else deadline_ns
        models = self._connection.models(deadline, self.retries > 0)
        if self.name not in models:
            raise ModelNotFound(
                f"the broker at {self._connection.path} has no model {self.name!r}; "
                f"it serves {', '.join(sorted(models)) or 'none'}"
            )
        return models[self.name]

    def _signature_info(self, deadline_ns: int) -> tuple[int, SignatureInfo]:
        """The signature's info, with the number of its version."""
        model = self._info(deadline_ns).called(self.version)
        name = self.signature_name or model.default_signature
        if name in model.unusable:
            raise ModelNotFound(
                f"{label_of(self.name, model.version, name)} cannot be called here: {model.unusable[name]}"
            )
        if name not in model.signatures:
            raise ModelNotFound(
                f"model {self.name!r} version {model.version} has no signature {name!r}; "
                f"it has {', '.join(sorted(model.signatures))}"
            )
        return model.version, model.signatures[name]


def left_s(deadline_ns: int) -> float:
    return (deadline_ns - monotonic_ns()) / 1e9


def _checked_priority(priority: Any) -> str:
    if priority not in PRIORITIES:
        raise InvalidInput(f"priority must be {' or '.join(map(repr, PRIORITIES))}, got {priority!r}")
    return str(priority)
