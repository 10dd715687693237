"""Where the time of a call went, reported with its answer and as spans of OpenTelemetry."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from time import monotonic_ns, time_ns

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import worker_client
from tests.brokers import TestBroker, wait_until
from worker_client import BrokerError, Client, InvalidInput, ModelFailed, Timings, aio, otel

MODELS = ("double", "picky", "tell")
STAGES = ["queue", "wait", "run", "copy", "wake-up"]


def rows(count: int, value: float = 1) -> np.ndarray:
    return np.full((count, 4), value, np.float32)


def check(timings: Timings, before_ns: int, after_ns: int) -> None:
    """In order, inside of the call, and the stages are all of it."""
    stamps = list(timings[:6])
    assert [before_ns, *stamps, after_ns] == sorted([before_ns, *stamps, after_ns])
    stages = (timings.queue_us, timings.wait_us, timings.run_us, timings.copy_us, timings.wake_up_us)
    assert sum(stages) == pytest.approx(timings.total_us)
    assert f"{timings.batch_rows} rows" in str(timings)


def test_of_a_request_in_place(client: Client):
    """The timings of a request in place come with its result, and are valid as long as its memory."""
    with client.model("double").request(rows=3) as request:
        request["x"] = rows(3)
        before = monotonic_ns()
        result = request.run()
        after = monotonic_ns()
        check(result.timings, before, after)
        assert result.timings.batch_rows == 3
        request.run()
        with pytest.raises(BrokerError, match="valid until"):
            _ = result.timings


def test_of_a_request_in_several_batches(client: Client):
    """From the begin of the first of its runs to the end of the last."""
    before = monotonic_ns()
    future = client.model("tell").submit({"x": rows(1000), "row": np.arange(1000)})
    assert max(future.result(60)["rows_in_batch"]) < 1000
    assert future.timings is not None
    check(future.timings, before, monotonic_ns())
    assert future.timings.batch_rows < 1000


def test_of_a_future(client: Client):
    """With the future, once it has a result; a call that fails has none."""
    before = monotonic_ns()
    future = client.model("double").submit(rows(2))
    future.result(60)
    assert future.timings is not None
    check(future.timings, before, monotonic_ns())
    failed = client.model("picky").submit(rows(1, 13))
    assert isinstance(failed.exception(60), ModelFailed)
    assert failed.timings is None


def test_of_predict(client: Client):
    """`on_answer` gets the timings of each answer of `predict`, and nothing else."""
    seen: list[Timings] = []
    model = client.model("picky").copy()
    model.on_answer = seen.append
    before = monotonic_ns()
    model.predict(rows(1))
    with pytest.raises(ModelFailed):
        model.predict(rows(1, 13))
    client.model("picky").predict(rows(1))
    (timings,) = seen
    check(timings, before, monotonic_ns())


def test_of_predict_in_a_loop(broker: TestBroker):
    """The same for asyncio."""

    async def call() -> tuple[list[Timings], int, int]:
        seen: list[Timings] = []
        async with aio.connect(broker.address) as client:
            model = client.model("double").copy(seen.append)
            before = monotonic_ns()
            await model.predict(rows(1))
            return seen, before, monotonic_ns()

    (timings,), before, after = asyncio.run(call())
    check(timings, before, after)


# -- OpenTelemetry -------------------------------------------------------------------------------------------------


@pytest.fixture
def provider() -> Iterator[TracerProvider]:
    made = TracerProvider(shutdown_on_exit=False)
    yield made
    made.shutdown()


@pytest.fixture
def exporter(provider: TracerProvider) -> InMemorySpanExporter:
    made = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(made))
    return made


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def check_stages(found: dict[str, ReadableSpan], title: str, since_ns: int) -> None:
    """Children of the call's span, one after the other, in its time."""
    call = found[title]
    assert since_ns <= call.start_time
    for earlier, later in itertools.pairwise(STAGES):
        assert found[earlier].end_time == found[later].start_time
    for stage in STAGES:
        span = found[stage]
        assert span.parent.span_id == call.context.span_id
        assert call.start_time - 1_000_000 <= span.start_time <= span.end_time <= call.end_time + 1_000_000


def test_a_call_joins_the_callers_trace(
    client: Client, provider: TracerProvider, exporter: InMemorySpanExporter
):
    """Its span is a child of the app's, its stages are its own children."""
    model = otel.traced(client.model("double"), provider)
    since = time_ns()
    with provider.get_tracer("app").start_as_current_span("HTTP POST /double") as outer:
        np.testing.assert_array_equal(model.predict(rows(2)), rows(2, 2))
    found = spans(exporter)
    check_stages(found, "predict double", since)
    call = found["predict double"]
    assert call.kind is SpanKind.CLIENT
    assert call.parent.span_id == outer.get_span_context().span_id
    assert call.context.trace_id == outer.get_span_context().trace_id
    assert call.attributes["onesession.model"] == "double"
    assert call.attributes["onesession.batch_rows"] == 2
    assert call.status.status_code is StatusCode.UNSET


def test_a_failure_is_in_the_trace(client: Client, provider: TracerProvider, exporter: InMemorySpanExporter):
    """With its exception, whether the call or its future has it."""
    model = otel.traced(client.model("picky"), provider)
    with pytest.raises(ModelFailed):
        model.predict(rows(1, 13))
    assert isinstance(model.submit(rows(1, 13)).exception(60), ModelFailed)
    with pytest.raises(InvalidInput):
        model.submit(np.ones(3, np.int8))
    wait_until(
        lambda: len(exporter.get_finished_spans()) == 3, "three spans"
    )  # a future's: after its waiters wake
    found = exporter.get_finished_spans()
    assert [span.name for span in found] == ["predict picky"] * 3
    assert {span.status.status_code for span in found} == {StatusCode.ERROR}
    assert all(span.events[0].name == "exception" for span in found)


def test_a_future_has_a_span(client: Client, provider: TracerProvider, exporter: InMemorySpanExporter):
    """It begins with the call, in the trace of who made it, and ends with the future."""
    model = otel.traced(client.model("double"), provider)
    since = time_ns()
    with provider.get_tracer("app").start_as_current_span("job") as outer:
        future = model.submit(rows(1))
        future.result(60)
    model.submit(rows(1)).result(60)  # whose callbacks run after those of the first
    found = {
        span.name: span
        for span in exporter.get_finished_spans()
        if span.context.trace_id == outer.get_span_context().trace_id
    }
    check_stages(found, "predict double", since)
    assert found["predict double"].parent.span_id == outer.get_span_context().span_id


def test_a_request_in_place_can_be_traced(
    client: Client, provider: TracerProvider, exporter: InMemorySpanExporter
):
    """By hand, with what its result tells."""
    model = otel.traced(client.model("double"), provider)
    since = time_ns()
    with model.span(), model.request(rows=1) as request:
        request["x"] = rows(1)
        model.add_stages(request.run().timings)
    check_stages(spans(exporter), "predict double", since)


def test_calls_in_a_loop_are_traced(
    broker: TestBroker, provider: TracerProvider, exporter: InMemorySpanExporter
):
    """Each in the trace of its own task, however they are interleaved."""

    async def one(model: otel.TracedAsyncModel, number: int) -> int:
        with provider.get_tracer("app").start_as_current_span(f"task {number}") as outer:
            await model.predict(rows(1, number))
            return outer.get_span_context().trace_id

    async def call() -> list[int]:
        async with aio.connect(broker.address) as client:
            model = otel.traced(client.model("double"), provider)
            return await asyncio.gather(*[one(model, number) for number in range(5)])

    traces = asyncio.run(call())
    for number in traces:
        names = [span.name for span in exporter.get_finished_spans() if span.context.trace_id == number]
        assert sorted(names[:5]) == sorted(STAGES)
        assert names[5] == "predict double"
    assert len(exporter.get_finished_spans()) == 5 * 7


def test_without_a_provider_nothing_happens(client: Client):
    """OpenTelemetry's default goes nowhere, and the call is answered."""
    assert not trace.get_current_span().is_recording()
    model = otel.traced(client.model("double"))
    np.testing.assert_array_equal(model.predict(rows(1)), rows(1, 2))
    assert model.signature.name == "serving_default"
    assert worker_client.otel is otel
