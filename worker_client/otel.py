"""OpenTelemetry spans for calls, as children of the caller's own. Opt-in: `pip install onesession[otel]`.

    digits = worker_client.otel.traced(client.model("digits"))
    digits.predict(x)

    HTTP POST /digit                                  the app's own span, if there is one
      predict digits                                  kind client; model, version, signature, rows of the batch; errors
        queue | wait | run | copy | wake-up           from the stamps in the slot's header (`calls/timings.py`)

Everything is done in the worker, so the broker needs neither OpenTelemetry nor an exporter. Only calls through the
handle that `traced` returns are traced; without a configured SDK its spans cost little and go nowhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import time_ns
from typing import TYPE_CHECKING, Any, overload

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider

from worker_client.calls.timings import Timings
from worker_client.model import Model
from worker_client.system.clock import monotonic_ns

if TYPE_CHECKING:
    from concurrent.futures import Future

    from worker_client.aio.client import AsyncModel
    from worker_client.calls.futures import CallFuture

_NAME = "onesession"
_STAGES = ("queue", "wait", "run", "copy", "wake-up")


@overload
def traced(model: Model, provider: TracerProvider | None = None) -> TracedModel: ...


@overload
def traced(model: AsyncModel, provider: TracerProvider | None = None) -> TracedAsyncModel: ...


def traced(
    model: Model | AsyncModel, provider: TracerProvider | None = None
) -> TracedModel | TracedAsyncModel:
    """A handle on the same model whose `predict`, `submit` and calls are traced.

    `provider` receives the spans, by default OpenTelemetry's global provider. Everything else behaves like the model.
    For calls that the handle does not trace, such as requests that are written in place, use `span`:

        with digits.span(), digits.request() as request:
            ...
            digits.add_stages(request.run().timings)
    """
    tracer = trace.get_tracer(_NAME, tracer_provider=provider)
    return TracedModel(model, tracer) if isinstance(model, Model) else TracedAsyncModel(model, tracer)


class _Traced:
    def __init__(self, name: str, attributes: dict[str, str], tracer: Tracer) -> None:
        self._title = f"predict {name}"
        self._attributes = attributes
        self._tracer = tracer

    @contextmanager
    def span(self) -> Iterator[Span]:
        """A span for a call, made the current one. An exception raised inside it is recorded."""
        with self._tracer.start_as_current_span(
            self._title, kind=SpanKind.CLIENT, attributes=self._attributes
        ) as span:
            yield span

    def add_stages(self, timings: Timings, span: Span | None = None) -> None:
        """Add the stages of an answer as children of `span`, or of the current one."""
        span = span or trace.get_current_span()
        if not span.is_recording():
            return
        span.set_attribute("onesession.batch_rows", timings.batch_rows)
        parent = trace.set_span_in_context(span)
        to_wall = time_ns() - monotonic_ns()
        for stage, begin, end in zip(_STAGES, timings[:5], timings[1:6]):
            child = self._tracer.start_span(stage, context=parent, start_time=begin + to_wall)
            child.end(end_time=end + to_wall)


class TracedModel(_Traced):
    """A traced handle on a model. Made by `traced`."""

    def __init__(self, model: Model, tracer: Tracer) -> None:
        super().__init__(model.name, _attributes(model), tracer)
        self._model = model.copy()
        self._model.on_answer = self.add_stages

    def __repr__(self) -> str:
        return f"<TracedModel {self._model!r}>"

    def __deepcopy__(self, memo: object) -> TracedModel:
        return TracedModel(self._model, self._tracer)

    def __reduce__(self) -> tuple[Any, ...]:
        """After unpickling, spans go to the global provider of the receiving process."""
        return traced, (self._model,)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        with self.span():
            return self._model(inputs, training, mask)

    def predict(self, inputs: Any, *args: Any, **options: Any) -> Any:
        """Like `Model.predict`."""
        with self.span():
            return self._model.predict(inputs, *args, **options)

    def submit(self, inputs: Any, timeout: float | None = None) -> CallFuture:
        """Like `Model.submit`. The span ends with the future."""
        span = self._tracer.start_span(self._title, kind=SpanKind.CLIENT, attributes=self._attributes)
        try:
            future = self._model.submit(inputs, timeout)
        except BaseException as error:
            _fail(span, error)
            span.end()
            raise
        future.add_done_callback(lambda done: self._end(span, done))
        return future

    def _end(self, span: Span, done: Future[Any]) -> None:
        timings: Timings | None = getattr(done, "timings", None)
        if done.cancelled():
            span.set_status(Status(StatusCode.ERROR, "cancelled"))
        elif (error := done.exception()) is not None:
            _fail(span, error)
        elif timings is not None:
            self.add_stages(timings, span)
        span.end()


class TracedAsyncModel(_Traced):
    """A traced handle on a model for asyncio. Made by `traced`."""

    def __init__(self, model: AsyncModel, tracer: Tracer) -> None:
        super().__init__(model.name, {"onesession.model": model.name}, tracer)
        self._model = model.copy(self.add_stages)

    def __repr__(self) -> str:
        return f"<TracedAsyncModel {self._model!r}>"

    def __deepcopy__(self, memo: object) -> TracedAsyncModel:
        return TracedAsyncModel(self._model, self._tracer)

    def __reduce__(self) -> tuple[Any, ...]:
        """Like `TracedModel`."""
        return traced, (self._model,)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    async def predict(self, inputs: Any, *args: Any, **options: Any) -> Any:
        """Like `AsyncModel.predict`."""
        with self.span():
            return await self._model.predict(inputs, *args, **options)

    def submit(self, inputs: Any, timeout: float | None = None) -> asyncio.Task[Any]:
        """Like `AsyncModel.submit`."""
        return asyncio.get_running_loop().create_task(self.predict(inputs, timeout=timeout))


def _attributes(model: Model) -> dict[str, str]:
    found = {"onesession.model": model.name, "onesession.priority": model.priority}
    if model.version is not None:
        found["onesession.version"] = str(model.version)
    if model.signature_name is not None:
        found["onesession.signature"] = model.signature_name
    return found


def _fail(span: Span, error: BaseException) -> None:
    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
