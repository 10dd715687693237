"""Tunes the models of one broker: looks up records, measures the other models, decides on oneDNN, fills in specs.

It must run before TensorFlow is imported, because TensorFlow then reads its oneDNN switch.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from broker.config.settings import Settings, Tune
from broker.models.errors import ModelLoadError
from broker.models.files import damage
from broker.models.files.locate import locate, weight_bytes
from broker.models.kinds import SourceKind, kind_of
from broker.models.lifecycle.loading import check_characters
from broker.models.spec import OFF, ModelSpec
from broker.tuning import machine
from broker.tuning.candidates import Fixed
from broker.tuning.choice import Choice, choose, choose_onednn
from broker.tuning.content import content_digest
from broker.tuning.experiment import NotMeasurable, ProbePool
from broker.tuning.race import RaceProgress
from broker.tuning.records import RecordKey, Records, TuningRecord
from worker_client.system.clock import monotonic

_log = logging.getLogger("onesession.tuning")

_LARGE_BATCH_ROWS = 256
LOCK_SECONDS = 120.0
"""How long to let another broker of this user measure first."""
_TELL_SECONDS = 2.0
_START_SECONDS = 10.0
"""The approximate time in which the probes import TensorFlow and open the models."""

OnProgress = Callable[[str, RaceProgress], None]


_set_by_us: str | None = None
"""The value that the broker has set for $TF_ENABLE_ONEDNN_OPTS, which then is not the user's choice."""


@dataclass(frozen=True, slots=True)
class Switch:
    """TensorFlow's oneDNN switch: `fixed` by hand, or None; `ours`: the broker may set it, until TensorFlow is
    imported.

    `now`: the value in force if it is no longer ours, None for TensorFlow's default.
    """

    fixed: bool | None
    ours: bool
    now: bool | None = None

    @classmethod
    def of(cls, setting: str) -> Switch:
        """The switch from $TF_ENABLE_ONEDNN_OPTS, which has priority, and the setting `onednn` (auto, on, off)."""
        found = os.environ.get(machine.ONEDNN_VARIABLE)
        on = None if found is None else found.lower() not in ("0", "false")
        if found is not None and found != _set_by_us:
            return cls(on, ours=False)
        ours = "tensorflow" not in sys.modules
        return cls(None if setting == "auto" or not ours else setting == "on", ours, None if ours else on)

    @property
    def free(self) -> bool:
        """Whether both values can be tried."""
        return self.ours and self.fixed is None

    def set(self, value: bool) -> None:
        global _set_by_us
        if self.ours:
            _set_by_us = os.environ[machine.ONEDNN_VARIABLE] = "1" if value else "0"


@dataclass(frozen=True, slots=True)
class TunedModel:
    """A SavedModel to tune, and the keys of usable records, its own first."""

    spec: ModelSpec
    directory: Path
    keys: tuple[RecordKey, ...]

    @classmethod
    def of(cls, spec: ModelSpec, switch: Switch) -> TunedModel:
        """Raises ModelLoadError, or OSError if its files cannot be read."""
        directory, _ = locate(spec)
        damage.check(spec, directory)
        if kind_of(directory) is SourceKind.LITE:
            raise ModelLoadError.of(
                spec.name,
                spec.source,
                "it is a LiteRT file, which no session runs, so there is nothing to measure",
                "Set intra_op_threads or max_concurrency if you know better than one thread and one run",
            )
        content = content_digest(directory)
        circumstances = {
            "machine": machine.describe(),
            "tags": list(spec.tags),
            "fixed": Fixed.of(spec, switch.fixed).to_message(),
            "other_onednn": switch.free,
            "batches": [spec.batching, spec.batch_limit, list(spec.allowed_batch_sizes)],
            **_opened_with(spec),
        }
        keys = [RecordKey(content, circumstances)]
        if switch.fixed is None and not switch.free:  # a record of both values includes the one in force
            keys.append(RecordKey(content, {**circumstances, "other_onednn": True}))
        return cls(spec, directory, tuple(keys))

    def find(self, records: Records) -> TuningRecord | None:
        return next((record for key in self.keys if (record := records.find(key)) is not None), None)


def tuned(settings: Settings, records: Records | None = None) -> tuple[ModelSpec, ...]:
    """The models of `settings`, with settings that they leave to the broker filled in as far as known.

    Measures models without a record if `settings.tune` allows it, and sets oneDNN for this process.
    """
    switch = Switch.of(settings.onednn)
    if switch.fixed is not None:
        switch.set(switch.fixed)
    if settings.tune == Tune.OFF.value or not _has_tensorflow():
        return _finished(settings, {})
    subjects = [subject for spec in settings.models if (subject := _subject(spec, switch)) is not None]
    records = records or Records()
    found = {subject.spec.name: subject.find(records) for subject in subjects}
    measured: dict[str, TuningRecord] = {}
    if settings.tune == Tune.AUTO.value:
        may_run = [s for s in subjects if s.spec.warmup is not False]
        missing = [s for s in may_run if not _will_do(found[s.spec.name], settings.tune_seconds)]
        measured = measure_all(missing, switch, settings.tune_seconds, records, _progress_logger())
        found.update(measured)
    known = {name: record for name, record in found.items() if record is not None}
    choices = decide(known, switch)
    for name, choice in choices.items():
        _log_choice(name, choice, known[name], logging.INFO if name in measured else logging.DEBUG)
    return _finished(settings, choices)


def _finished(settings: Settings, choices: Mapping[str, Choice]) -> tuple[ModelSpec, ...]:
    made = tuple(filled(spec, choices.get(spec.name)) for spec in settings.models)
    return tuple(map(_for_large_batches, settings.models, made)) if settings.idle_seconds else made


def _for_large_batches(spec: ModelSpec, made: ModelSpec) -> ModelSpec:
    """`made` from `spec`, with the defaults of a node's broker. Its callers send the large batches of engines. A batch
    runs whole, as it would in its caller's process, and two run at a time, so that no processor is idle while one of
    them begins or ends."""
    rows = spec.max_batch_size or spec.allowed_batch_sizes
    return replace(
        made,
        max_batch_size=made.max_batch_size if rows else _LARGE_BATCH_ROWS,
        max_concurrency=made.max_concurrency or (None if spec.is_function else 2),
    )


def measure_all(
    subjects: Sequence[TunedModel],
    switch: Switch,
    seconds: float,
    records: Records,
    on_progress: OnProgress,
    *,
    again: bool = False,
) -> dict[str, TuningRecord]:
    """Measure these models for at most `seconds` each, and remember the results: {name: record}.

    Records that another broker made while this one waited are used, unless `again`.
    """
    found: dict[str, TuningRecord] = {}
    if not subjects:
        return found
    with records.measuring(LOCK_SECONDS):
        before = {s.spec.name: record for s in subjects if (record := s.find(records)) is not None}
        if not again:
            found = dict(before)
        todo = [s for s in subjects if not _will_do(found.get(s.spec.name), seconds)]
        if not todo:
            return found
        names = ", ".join(subject.spec.name for subject in todo)
        about = len(todo) * seconds + _START_SECONDS
        _log.info("tuning %s: once on this machine, about %.0f s; --no-tune skips it", names, about)
        weights = max(weight_bytes(subject.directory) for subject in todo)
        onednn = switch.now if switch.fixed is None else switch.fixed
        try:
            with ProbePool(onednn, both=switch.free, weights=weights) as probe_pool:
                for subject in todo:
                    name = subject.spec.name
                    record = _measure(probe_pool, subject, seconds, before.get(name), on_progress)
                    if record is not None:
                        records.save(subject.keys[0], record)
                        found[name] = record
        except NotMeasurable as reason:
            _log.warning("%s cannot be tuned: %s", names, reason)
    return found


def decide(records: Mapping[str, TuningRecord], switch: Switch) -> dict[str, Choice]:
    """The choice for each model that could be measured, with oneDNN set for all of them together."""
    known = {name: (r.table, r.disturbed) for name, r in records.items() if r.table is not None}
    if not known:
        return {}
    tables = [table for table, _ in known.values()]
    onednn = switch.now if switch.fixed is None else switch.fixed
    if onednn is None:
        default = tables[0].default.onednn
        onednn = (
            choose_onednn(tables, default, [busy for _, busy in known.values()]) if switch.ours else default
        )
        switch.set(onednn)
    choices = {name: choose(table, onednn, busy=busy) for name, (table, busy) in known.items()}
    return {name: choice for name, choice in choices.items() if choice is not None}


def filled(spec: ModelSpec, choice: Choice | None) -> ModelSpec:
    """The spec with the choice for all settings that it leaves to the broker; unchanged without a choice."""
    if choice is None:
        return spec
    setting, size = choice.setting, choice.batch_size
    made = replace(
        spec,
        intra_op_threads=spec.intra_op_threads or setting.intra_op_threads,
        max_concurrency=spec.max_concurrency or setting.side_by_side,
        caller_thread=setting.caller_thread if spec.caller_thread is None else spec.caller_thread,
    )
    if size is None or spec.max_batch_size is not None:
        return made
    allowed = tuple(rows for rows in spec.allowed_batch_sizes if rows <= size)
    return replace(made, max_batch_size=size, allowed_batch_sizes=allowed)


def _has_tensorflow() -> bool:
    return "tensorflow" in sys.modules or find_spec("tensorflow") is not None


def _subject(spec: ModelSpec, switch: Switch) -> TunedModel | None:
    """The model to tune; None if there is nothing to tune, or if it cannot be loaded, which loading will report."""
    if spec.is_function or _settled(spec, switch):
        return None
    try:
        check_characters(spec)
        return TunedModel.of(spec, switch)
    except (ModelLoadError, OSError):
        return None


def _opened_with(spec: ModelSpec) -> dict[str, Any]:
    """The settings that change the measured session or signature, as far as they are set."""
    default = ModelSpec(spec.name, spec.source)
    names = ("inputs", "outputs", "inter_op_threads", "xla", "session_config")
    changed = {name: getattr(spec, name) for name in names if getattr(spec, name) != getattr(default, name)}
    return {"opened_with": json.loads(json.dumps(changed, default=str))} if changed else {}


def _settled(spec: ModelSpec, switch: Switch) -> bool:
    """Whether everything is fixed by hand."""
    threads = (spec.intra_op_threads, spec.max_concurrency, spec.caller_thread)
    batches = spec.batching == OFF or spec.max_batch_size is not None
    return not switch.free and batches and None not in threads


def _measure(
    probe_pool: ProbePool,
    subject: TunedModel,
    seconds: float,
    before: TuningRecord | None,
    on_progress: OnProgress,
) -> TuningRecord | None:
    """The record to keep; None if the model could not be measured this time."""
    name = subject.spec.name
    try:
        measured = probe_pool.measure(
            subject.spec, subject.directory, seconds, lambda progress: on_progress(name, progress)
        )
    except NotMeasurable as reason:
        level = logging.DEBUG if reason.unloadable else logging.WARNING
        _log.log(level, "%s cannot be tuned: %s", name, reason)
        return (
            TuningRecord(None, note=str(reason), seconds=seconds, complete=False) if reason.lasting else None
        )
    _log.info("measured %s in %.0f s", name, measured.seconds)
    return TuningRecord(
        measured.table,
        what=measured.what,
        note=f"others used {measured.others:.0%} of the processors" if measured.busy else "",
        seconds=seconds,
        complete=measured.complete,
        busy_times=(before.busy_times if before is not None else 0) + 1 if measured.busy else 0,
    )


def _will_do(record: TuningRecord | None, seconds: float) -> bool:
    return record is not None and record.will_do(seconds)


def _log_choice(name: str, choice: Choice, record: TuningRecord, level: int) -> None:
    _log.log(level, "%s: %s", name, choice)
    if record.disturbed:
        _log.log(
            level,
            "%s was measured while %s: only a clear gain counts, and the next start measures again",
            name,
            record.note,
        )
    assert record.table is not None
    alone = choose_onednn([record.table], record.table.default.onednn, [record.disturbed])
    better = choose(record.table, alone, busy=record.disturbed)
    if better is not None and alone != choice.setting.onednn and better.rate > choice.rate:
        _log.log(
            level,
            "%s alone would run %.0f rows/s with oneDNN %s, which is one switch for all models",
            name,
            better.rate,
            "on" if alone else "off",
        )


def _progress_logger() -> OnProgress:
    """A callback that logs the progress every few seconds."""
    last = monotonic()

    def log_progress(name: str, progress: RaceProgress) -> None:
        nonlocal last
        now = monotonic()
        if now - last >= _TELL_SECONDS:
            last = now
            _log.info(
                "tuning %s: %d of %d, at most %.0f s left",
                name,
                progress.done,
                progress.planned,
                progress.seconds_left,
            )

    return log_progress
