"""A signature in service: its model, its policy, whether it is light or heavy now, and its counters.

Each thread that runs the model has counters of its own, so that counting takes no lock. The control thread adds them
up: it may see a count one run late.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from broker.counters.failures import Failures, SignatureKey
from broker.counters.thread_counters import Stamps, ThreadCounters
from broker.data_plane import strings
from broker.data_plane.evidence import Evidence
from broker.host.processor_wait import ProcessorWait
from broker.models.lifecycle.entry import Entry
from broker.models.spec import AUTO, ModelSpec
from broker.scheduling.delay import AutoDelay, DelayPolicy, FixedDelay, RunCost
from broker.scheduling.lightness import MEASURED, SHORT_NS, UNMEASURED, Lightness
from worker_client.wire.errors import ModelFailed

_log = logging.getLogger("onesession.serving")

_MEAN_BITS = 5  # a run counts in the moving average for about 32 further runs
_MAX_GROUPS = 4096
_SPLIT_REQUESTS = 0  # the number of the counters of requests that ran in parts; threads have numbers from 1

Ragged = tuple[tuple[int, ...], ...]
"""For each input, the axes along which requests of one group may differ; empty if there are none."""


class ModelQueueLimits:
    """How many rows and bytes of one model may wait."""

    __slots__ = ("max_bytes", "max_rows", "model")

    def __init__(self, spec: ModelSpec) -> None:
        self.model = spec.name
        self.max_rows = spec.max_queue_rows
        self.max_bytes = spec.max_queue_bytes

    def __repr__(self) -> str:
        return f"<ModelQueueLimits of {self.model}: {self.max_rows} rows, {self.max_bytes} bytes>"


class ServedSignature:
    """One entry of the repository in service. `light`: it runs on the intake thread."""

    __slots__ = (
        "_groups",
        "_lightness",
        "_lock",
        "_watch_ns",
        "all_counters",
        "allowed",
        "batch_limit",
        "cost",
        "delay",
        "divisible",
        "entry",
        "evidence",
        "expected_ns",
        "flushes",
        "gives_strings",
        "interrupted",
        "light",
        "limit_ns",
        "limits",
        "pad_value",
        "ragged",
        "run",
        "signature_key",
        "takes_strings",
    )

    def __init__(self, entry: Entry, limits: ModelQueueLimits) -> None:
        self.entry = entry
        self.signature_key = SignatureKey(entry.model.spec.name, entry.version, entry.signature.name)
        self.limits = limits
        self.run = strings.run_of(entry.run, entry.signature)
        self.takes_strings = entry.signature.takes_strings
        self.gives_strings = entry.signature.gives_strings
        self.flushes = entry.model.onednn is not None  # flush denormals, as in all TensorFlow runs
        measured = entry.cost.p50_us is not None
        self.expected_ns = int((entry.cost.p50_us or 0) * 1000) if measured else SHORT_NS
        self.batch_limit = entry.max_batch_size
        self.allowed = entry.model.spec.allowed_batch_sizes if entry.batchable else ()
        self.ragged = _ragged(entry)
        self.pad_value = entry.model.spec.pad_value
        self.divisible = entry.batchable  # until its answers show that its rows depend on each other
        self.evidence = Evidence() if entry.batchable and entry.examined else None
        self.cost = _measured(entry)
        self.delay = _delay(entry, self.cost)
        self._lightness = _lightness(entry, self.delay)
        self.light = self._lightness.light
        self._watch_ns = self._lightness.watch_ns
        self.limit_ns = int(entry.max_run_seconds * 1e9)  # limit of a run; 0: none
        self.interrupted = False  # its model was ended during its runs: the next version runs these requests
        self.all_counters: dict[int, ThreadCounters] = {_SPLIT_REQUESTS: ThreadCounters()}
        self._groups: dict[Hashable, Hashable] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<ServedSignature {self.entry!r} {self._lightness!r}>"

    @property
    def model(self) -> str:
        return self.entry.model.spec.name

    @property
    def why(self) -> str:
        """Why it is light or heavy, in a word or two."""
        return self._lightness.why

    @property
    def stateful(self) -> bool:
        return bool(self.entry.stateful)

    def group(self, *key: Hashable) -> Hashable:
        """The object that represents this group of requests: equal keys give the same object."""
        if len(self._groups) >= _MAX_GROUPS:  # workers choose how many there are
            self._groups.clear()
        return self._groups.setdefault((self.entry.id, *key), (self.entry.id, *key))

    def size_of(self, rows: int) -> int:
        """The number of rows to which a batch of `rows` rows is padded."""
        allowed = self.allowed
        if not allowed or not rows or rows >= allowed[-1]:
            return rows
        return allowed[bisect_left(allowed, rows)]

    # -- threads that run it -------------------------------------------------------------------------------------

    def new_counters(self, thread: int) -> ThreadCounters:
        """New counters for the thread with this number, which `all_counters` includes from now on."""
        with self._lock:
            made = self.all_counters[thread] = ThreadCounters()
        return made

    def ran(self, rows: int, run_ns: int, held_ns: int, now_ns: int, waits: ProcessorWait) -> None:
        """Count a run of `rows` rows, padding included. Together with its other work, such as copies of large answers,
        it held its thread for `held_ns`; `waits` tells how long the thread waited for a processor.

        If two threads call it at the same time, one run may be missing from the average."""
        self.expected_ns += (run_ns - self.expected_ns) >> _MEAN_BITS
        if held_ns > self._watch_ns:
            self._weigh(held_ns, now_ns, waits)
        if self.delay is not None:
            self.cost.observe(rows, run_ns)

    def failed(self, held_ns: int, now_ns: int, waits: ProcessorWait) -> None:
        """Count a run that raised and held its thread for `held_ns`."""
        if held_ns > self._watch_ns:
            self._weigh(held_ns, now_ns, waits, averaged=False)

    def _weigh(self, held_ns: int, now_ns: int, waits: ProcessorWait, averaged: bool = True) -> None:
        """Decide whether it is light or heavy after this run; `averaged`: the moving average includes the run."""
        lost_ns = min(held_ns, waits.lost_ns(now_ns)) if held_ns > SHORT_NS else 0
        with self._lock:
            if averaged:
                self.expected_ns = max(0, self.expected_ns - (lost_ns >> _MEAN_BITS))
            self._lightness.ran(
                held_ns - lost_ns, self.expected_ns, now_ns, self._runs() if self.light else 0
            )
            changed = self.light is not self._lightness.light
            self.light, self._watch_ns = self._lightness.light, self._lightness.watch_ns
        if changed:
            what = "light" if self.light else "heavy"
            _log.info(
                "%s is %s now: %s (%.1f ms)", self.signature_key, what, self.why, (held_ns - lost_ns) / 1e6
            )

    def _runs(self) -> int:
        return sum(sum(counters.sizes.copy().values()) for counters in self.all_counters.values())

    def answered_whole(self, stamps: Stamps, started_ns: int) -> None:
        """Count a request that ran in parts; each part has been counted as a run."""
        counters = self.all_counters[_SPLIT_REQUESTS]
        with self._lock:  # the only counters that several threads write
            counters.answered((stamps,), started_ns)

    def keep_apart(self, reason: str) -> None:
        """Run every request by itself and in one piece from now on, because joined or split answers were wrong."""
        with self._lock:
            if not self.divisible:
                return
            self.divisible = False
        self.allowed = ()
        self.evidence = None
        _log.warning("%s: requests are neither joined nor split from now on: %s", self.signature_key, reason)
        try:
            self.entry.keep_apart(reason)
        except Exception:  # the request that showed it has been answered already
            _log.exception("%s: cannot remember that requests are kept apart", self.signature_key)

    # -- any thread ----------------------------------------------------------------------------------------------

    def list_counters(self) -> list[ThreadCounters]:
        """The counters of all threads, which may continue to count."""
        with self._lock:
            return list(self.all_counters.values())

    def batch_rows(self) -> dict[int, int]:
        """Rows of a run, without padding -> runs."""
        total: dict[int, int] = {}
        for counters in self.list_counters():
            for rows, runs in counters.sizes.copy().items():
                total[rows] = total.get(rows, 0) + runs
        return dict(sorted(total.items()))

    def to_message(self, failures: Failures) -> dict[str, Any]:
        """The counters. `requests` counts requests that the model answered, with outputs or an error."""
        all_counters, failed = (
            self.list_counters(),
            failures.of(self.signature_key).get(ModelFailed.__name__, 0),
        )
        sizes = self.batch_rows()
        known = sizes or self.entry.cost.p50_us is not None
        return {
            "requests": sum(sum(counters.total) for counters in all_counters) + failed,
            "rows": sum(counters.rows for counters in all_counters),
            "runs": sum(sizes.values()),
            "failures": failed,
            "padded_rows": sum(counters.padded_rows for counters in all_counters),
            "batch_rows": {str(rows): runs for rows, runs in sizes.items()},
            "light": self.light,
            "why": self.why,
            "run_us": self.expected_ns / 1000 if known else 0.0,
            "stateful": self.entry.stateful,
            "apart": self.entry.apart,
        }


def served_signatures_of(
    entries: Sequence[Entry | None], before: Iterable[ServedSignature | None] = ()
) -> list[ServedSignature | None]:
    """The ServedSignature of each entry: the existing one from `before` if there is one; an entry that occurs several
    times has only one.

    The signatures of one model share its limits, and so do its versions.
    """
    known = {served.entry: served for served in before if served is not None}
    limits_of = {served.model: served.limits for served in known.values()}
    served_signatures: list[ServedSignature | None] = []
    for entry in entries:
        if entry is not None and entry not in known:
            spec = entry.model.spec
            known[entry] = ServedSignature(entry, limits_of.setdefault(spec.name, ModelQueueLimits(spec)))
        served_signatures.append(None if entry is None else known[entry])
    return served_signatures


def _ragged(entry: Entry) -> Ragged:
    if not entry.batchable or not entry.model.spec.pad_variable_length:
        return ()
    axes = tuple(
        tuple(axis for axis, size in enumerate(spec.shape or ()) if axis and size is None)
        for spec in entry.signature.inputs
    )
    return axes if any(axes) else ()


def _measured(entry: Entry) -> RunCost:
    """The cost that warm-up measured, until runs of requests update it."""
    cost = RunCost()
    if entry.cost.p50_us is not None:
        for rows, run_us in ((1, entry.cost.p50_us), *entry.cost.batches):
            cost.observe(rows, int(run_us * 1000))
    return cost


def _lightness(entry: Entry, delay: DelayPolicy | None) -> Lightness:
    """Light or heavy by the measurements of warm-up. The intake thread neither waits for long nor compiles code; and a
    single thread of their own keeps stateful runs in order."""
    always = entry.always_heavy or ("max_delay" if isinstance(delay, FixedDelay) else "")
    cost = entry.cost
    unknown = cost.p50_us is None or (cost.light and cost.unlike)
    return Lightness(cost.light and not unknown, UNMEASURED if unknown else MEASURED, always)


def _delay(entry: Entry, cost: RunCost) -> DelayPolicy | None:
    max_delay = entry.model.spec.max_delay
    if not entry.batchable or max_delay == 0:
        return None
    if max_delay == AUTO:
        return AutoDelay(cost)
    return FixedDelay(int(float(max_delay) * 1e9), cost)


def describe(served_signatures: Iterable[ServedSignature | None], failures: Failures) -> dict[str, Any]:
    """{model: {signature: counters}}, with `signature@version` for all versions except the latest."""
    models: dict[str, Any] = {}
    each = dict.fromkeys(served for served in served_signatures if served is not None)
    for served in sorted(each, key=lambda served: -served.entry.version):
        counters, name = models.setdefault(served.model, {}), served.entry.signature.name
        label = f"{name}@{served.entry.version}" if name in counters else name
        counters[label] = served.to_message(failures)
    return {served.model: models[served.model] for served in each}
