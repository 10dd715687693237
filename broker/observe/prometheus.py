"""The statistics as Prometheus metrics, computed at each scrape; between scrapes they cost nothing.

Names and units follow https://prometheus.io/docs/practices/naming/. `METRICS` lists all metrics: kind, help, labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from broker.counters.histogram import Histogram
from broker.models.lifecycle.version import VersionState

Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

_SIGNATURE = ("model", "version", "signature")
_SIZE_BOUNDS = tuple(1 << exponent for exponent in range(13))

METRICS: dict[str, tuple[type[Family], str, tuple[str, ...]]] = {
    "onesession_requests": (CounterMetricFamily, "Requests answered, with outputs or an error", _SIGNATURE),
    "onesession_request_errors": (
        CounterMetricFamily,
        "Requests answered with an error, by class of the error",
        (*_SIGNATURE, "error"),
    ),
    "onesession_rows": (CounterMetricFamily, "Rows run, without padding", _SIGNATURE),
    "onesession_padding_rows": (CounterMetricFamily, "Rows run that were padding", _SIGNATURE),
    "onesession_input_bytes": (CounterMetricFamily, "Inputs of all runs", _SIGNATURE),
    "onesession_output_bytes": (CounterMetricFamily, "Outputs copied into slots", _SIGNATURE),
    "onesession_joined_bytes": (
        CounterMetricFamily,
        "Inputs copied to run several requests together, padding included",
        _SIGNATURE,
    ),
    "onesession_join_seconds": (
        CounterMetricFamily,
        "Time spent on copying inputs to run several requests together",
        _SIGNATURE,
    ),
    "onesession_queue_seconds": (
        HistogramMetricFamily,
        "From a request's submission until the broker takes it",
        _SIGNATURE,
    ),
    "onesession_batch_wait_seconds": (
        HistogramMetricFamily,
        "From the broker's taking of a request until its run begins",
        _SIGNATURE,
    ),
    "onesession_run_seconds": (HistogramMetricFamily, "Runs of the model", _SIGNATURE),
    "onesession_copy_seconds": (
        HistogramMetricFamily,
        "From the end of a run until all its outputs are in their slots",
        _SIGNATURE,
    ),
    "onesession_request_seconds": (
        HistogramMetricFamily,
        "From a request's submission until its answer is in its slot, without the worker's wake-up",
        _SIGNATURE,
    ),
    "onesession_batch_rows": (HistogramMetricFamily, "Rows of a run, without padding", _SIGNATURE),
    "onesession_batch_padding_rows": (HistogramMetricFamily, "Rows of padding of a run", _SIGNATURE),
    "onesession_signature_light": (
        GaugeMetricFamily,
        "1 if the signature runs on the intake thread, 0 if on the model's own threads",
        _SIGNATURE,
    ),
    "onesession_long_run_seconds": (
        GaugeMetricFamily,
        "Age of a run under way for over a second and ten times its usual time",
        _SIGNATURE,
    ),
    "onesession_queue_rows": (GaugeMetricFamily, "Rows that wait in the model's queue", ("model",)),
    "onesession_queue_bytes": (GaugeMetricFamily, "Inputs that wait in the model's queue", ("model",)),
    "onesession_held_requests": (
        GaugeMetricFamily,
        "Requests that wait for room in their model's queue",
        ("model",),
    ),
    "onesession_waiting": (
        GaugeMetricFamily,
        "1 for the current way in which workers may poll for their answers, and its reason",
        ("polling", "reason"),
    ),
    "onesession_model_state": (
        GaugeMetricFamily,
        "1 for the current state of a model's version",
        ("model", "version", "state"),
    ),
    "onesession_model_memory_bytes": (
        GaugeMetricFamily,
        "By how much the broker grew when it loaded a model's version",
        ("model", "version"),
    ),
    "onesession_slots": (GaugeMetricFamily, "Slots of all workers, by state", ("state",)),
    "onesession_ring_requests": (GaugeMetricFamily, "Requests in all submission rings", ()),
    "onesession_ring_fullest_requests": (GaugeMetricFamily, "Requests in the fullest submission ring", ()),
    "onesession_shared_memory_bytes": (GaugeMetricFamily, "Shared memory handed out to workers", ()),
    "onesession_shared_memory_limit_bytes": (
        GaugeMetricFamily,
        "Limit of the shared memory of all workers",
        (),
    ),
    "onesession_workers": (GaugeMetricFamily, "Worker processes attached", ()),
    "onesession_worker_attaches": (CounterMetricFamily, "Workers that attached", ()),
    "onesession_worker_reconnects": (
        CounterMetricFamily,
        "Workers that attached after they had lost a broker",
        (),
    ),
    "onesession_worker_detaches": (CounterMetricFamily, "Workers that closed, ended or were cut off", ()),
    "onesession_faults": (
        CounterMetricFamily,
        "Faults that must never happen: completions refused as late, answers that belong to another request",
        ("kind",),
    ),
    "onesession_restarts": (CounterMetricFamily, "Restarts of this broker's process by the supervisor", ()),
    "onesession_start_time_seconds": (
        GaugeMetricFamily,
        "When the broker began to serve, in seconds since 1970",
        (),
    ),
}


def registry(message: Callable[[], dict[str, Any]], version: str) -> CollectorRegistry:
    """A registry with the broker's metrics, and those of its process (`process_*`). `message`: `Statistics.message`."""
    made = CollectorRegistry(auto_describe=False)
    made.register(_BrokerCollector(message, version))
    ProcessCollector(registry=made)
    return made


class _BrokerCollector(Collector):
    def __init__(self, message: Callable[[], dict[str, Any]], version: str) -> None:
        self._message = message
        self._version = version

    def collect(self) -> Iterator[Metric]:
        info = InfoMetricFamily("onesession", "The broker")
        info.add_metric([], {"version": self._version})
        yield info
        yield from families(self._message())


def families(message: dict[str, Any]) -> Iterable[Metric]:
    """The metric families for one state of the statistics."""
    found: dict[str, Any] = {
        name: kind(name, text, labels=labels) for name, (kind, text, labels) in METRICS.items()
    }
    for signature in message["signatures"]:
        _add_signature(found, signature)
    for model, queue in message["queues"].items():
        for key, name in (("rows", "queue_rows"), ("bytes", "queue_bytes"), ("held", "held_requests")):
            found[f"onesession_{name}"].add_metric([model], queue[key])
    waiting = message["waiting"]
    found["onesession_waiting"].add_metric([waiting["polling"], waiting["reason"]], 1)
    for labels, seconds in _longest(message["long_runs"]).items():
        found["onesession_long_run_seconds"].add_metric(labels, seconds)
    for version in message["versions"]:
        _add_version(found, version)
    for state, slots in message["slots"].items():
        found["onesession_slots"].add_metric([state], slots)
    for kind, times in message["faults"].items():
        found["onesession_faults"].add_metric([kind], times)
    for name, value in _of_broker(message):
        found[f"onesession_{name}"].add_metric([], value)
    return found.values()


def _longest(runs: Iterable[dict[str, Any]]) -> dict[tuple[str, ...], float]:
    """The oldest run of each signature."""
    found: dict[tuple[str, ...], float] = {}
    for run in runs:
        labels = run["model"], str(run["version"]), run["signature"]
        found[labels] = max(found.get(labels, 0.0), run["seconds"])
    return found


def _of_broker(message: dict[str, Any]) -> Iterator[tuple[str, float]]:
    rings = [worker["in_ring"] for worker in message["workers"]]
    yield "ring_requests", sum(rings)
    yield "ring_fullest_requests", max(rings, default=0)
    yield "shared_memory_bytes", message["shared_memory"]["bytes"]
    yield "shared_memory_limit_bytes", message["shared_memory"]["limit"]
    yield "workers", len(message["workers"])
    yield "worker_attaches", message["arrivals"]["attached"]
    yield "worker_reconnects", message["arrivals"]["reattached"]
    yield "worker_detaches", message["arrivals"]["detached"]
    yield "restarts", message["restarts"]
    yield "start_time_seconds", message["started"]


def _add_signature(found: dict[str, Any], signature: dict[str, Any]) -> None:
    labels = [signature["model"], str(signature["version"] or ""), signature["signature"]]
    for error, times in signature["errors"].items():
        found["onesession_request_errors"].add_metric([*labels, error], times)
    found["onesession_requests"].add_metric(labels, signature["requests"])
    if signature["light"] is None:
        return
    found["onesession_signature_light"].add_metric(labels, signature["light"])
    for name, key in (
        *(("rows", "rows"), ("padding_rows", "padded_rows"), ("input_bytes", "input_bytes")),
        *(("output_bytes", "output_bytes"), ("joined_bytes", "joined_bytes")),
    ):
        found[f"onesession_{name}"].add_metric(labels, signature[key])
    found["onesession_join_seconds"].add_metric(labels, signature["gather_ns"] / 1e9)
    for name, stage in (
        *(("queue", "queue"), ("batch_wait", "wait"), ("run", "run"), ("copy", "copy"), ("request", "total")),
    ):
        histogram = Histogram.from_message(signature["stages"][stage])
        buckets = [(repr(bound / 1e9), total) for bound, total in histogram.cumulative()]
        buckets.append(("+Inf", histogram.count))
        found[f"onesession_{name}_seconds"].add_metric(labels, buckets, histogram.sum_ns / 1e9)
    padded = sum(runs for _, runs in signature["paddings"])
    paddings = [(0, signature["runs"] - padded), *signature["paddings"]]
    found["onesession_batch_rows"].add_metric(labels, *_sizes(signature["sizes"]))
    found["onesession_batch_padding_rows"].add_metric(labels, *_sizes(paddings))


def _sizes(sizes: Sequence[tuple[int, int]]) -> tuple[list[tuple[str, int]], int]:
    """The cumulative buckets, and the sum."""
    bounds = (0, *_SIZE_BOUNDS) if any(size == 0 for size, _ in sizes) else _SIZE_BOUNDS
    buckets = [(repr(float(bound)), sum(runs for size, runs in sizes if size <= bound)) for bound in bounds]
    buckets.append(("+Inf", sum(runs for _, runs in sizes)))
    return buckets, sum(size * runs for size, runs in sizes)


def _add_version(found: dict[str, Any], version: dict[str, Any]) -> None:
    labels = [version["model"], str(version["version"])]
    for state in VersionState:
        found["onesession_model_state"].add_metric([*labels, state.value], state.value == version["state"])
    if version["memory_bytes"] is not None:
        found["onesession_model_memory_bytes"].add_metric(labels, version["memory_bytes"])
