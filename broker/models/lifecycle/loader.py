"""The thread that brings models up to date while the broker serves: load, warm, switch, drain, unload.

     `onesession reload`, a poll --order--> what is on disk, what the policy wants
        load and warm the new ones (no worker can call them yet)
        AVAILABLE: numbers that follow now mean the new version  <- one step of the intake thread
        UNLOADING the old ones: they get no new requests; when theirs are finished, now or later: close: END

Requests that were taken before the switch finish on their version; later requests never get the old one. If a version
cannot be loaded, the old one stays in service, and the load is tried again later (`retries.py`). An order is done when
the new versions are served: the thread waits between orders for old versions that still have requests some seconds
later. Each order is a job (`load_jobs.py`), for which the thread waits unless it takes long; a load has a time limit
(`load_attempt.py`). Only the job that has a model's turn changes its versions, except `replace`, which takes a version
out of service whose run was ended.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from broker.models.errors import ModelLoadError
from broker.models.lifecycle import loading
from broker.models.lifecycle.load_attempt import LoadAttempt
from broker.models.lifecycle.load_jobs import LoadJobs
from broker.models.lifecycle.load_orders import Done, LoadOrder, LoadOutcome
from broker.models.lifecycle.repository import Repository
from broker.models.lifecycle.retries import FailedVersion, LoadRetries
from broker.models.lifecycle.served_model import ServedModel
from broker.models.lifecycle.unloader import TableSwitch, Unloader, close
from broker.models.lifecycle.version import Version, VersionState
from broker.models.model import LoadedModel
from broker.models.spec import ModelSpec
from broker.models.version_policy import numbered
from worker_client.interpreter import threads
from worker_client.system.clock import monotonic
from worker_client.wire.errors import BrokerError, InvalidInput, ModelNotFound, Overloaded

_log = logging.getLogger("onesession.models")

_UNLOAD_S = 5.0  # how long an order waits
_UNLOAD_FIRST_S = 30.0  # if the new version needs the memory
_LEAVING_CHECK_S = 0.5


@dataclass(frozen=True, slots=True)
class Replacement:
    """An order to load a version again in place of one that was taken out of service."""

    served: ServedModel
    old: Version
    again: Version


class Loader:
    """The loader. `order`, `replace` and `stop` may be called from any thread. `tune` fills in settings that a spec
    leaves open; `announce` is called when a version's state has changed, `on_begin` with a model's name when the load
    of a version begins and with "" when it has ended, `on_load` with the name when the version can be called."""

    def __init__(
        self,
        repository: Repository,
        table_switch: TableSwitch,
        tune: Callable[[ModelSpec], ModelSpec],
        announce: Callable[[], None],
        poll_seconds: float = 0.0,
        load_seconds: float = 0.0,
    ) -> None:
        self._repository = repository
        self._table_switch = table_switch
        self._tune = tune
        self._announce = announce
        self._poll_seconds = poll_seconds
        self._load_seconds = load_seconds
        self.on_begin: Callable[[str], object] = lambda _model: None
        self.on_load: Callable[[str], object] = lambda _model: None
        self._jobs = LoadJobs()
        self._attempts: list[LoadAttempt] = []  # loads that may still be running
        self._orders: queue.SimpleQueue[LoadOrder | Replacement | None] = queue.SimpleQueue()
        self._seen: dict[str, dict[int, str]] = {}  # fingerprints at the last poll
        self._retries = LoadRetries()
        self._stopping = False
        self._unloader = Unloader(repository, table_switch, announce, lambda: self._stopping)
        self._thread = threading.Thread(target=self._run, name="onesession-loader", daemon=True)

    def start(self) -> None:
        threads.start(self._thread)

    def order(self, order: LoadOrder) -> None:
        self._orders.put(order)

    def stop(self, seconds: float) -> bool:
        """Start no more work. True if the thread has ended within `seconds` and nothing was being loaded: a load cannot
        be cancelled, so a running one is abandoned."""
        self._stopping = True
        self._orders.put(None)
        deadline = monotonic() + seconds
        self._thread.join(seconds)
        ended = self._jobs.join(max(0.0, deadline - monotonic())) and not self._thread.is_alive()
        return ended and all(attempt.is_over for attempt in self._attempts)

    def replace(self, model: LoadedModel, cause: str) -> None:
        """Take this model, whose runs were ended, out of service immediately, and load its version again."""
        with self._repository.lock:
            found = [
                (served, version)
                for served in self._repository.served.values()
                for version in served.available
                if version.model is model
            ]
            for served, old in found:
                old.enter(VersionState.END, cause)
                again = Version(old.number, old.spec, old.fingerprint, old.is_numbered)
                served.versions.append(again)
                self._orders.put(Replacement(served, old, again))
            self._repository.follow()
        self._table_switch.switch_soon()
        self._announce()

    def _run(self) -> None:
        next_poll = monotonic() + self._poll_seconds
        while not self._stopping:
            try:
                order = self._orders.get(timeout=self._seconds_to_wait(next_poll))
            except queue.Empty:
                self._unloader.end_leaving()
                if self._poll_seconds and monotonic() >= next_poll:
                    self._poll()
                    next_poll = monotonic() + self._poll_seconds
                self._retry()
                continue
            if isinstance(order, Replacement):
                self._have_done(partial(self._load_again, order))
            elif order is not None:
                self._have_done(partial(self._carry_out, order), order.done)

    def _have_done(self, job: Callable[[], None], done: Done = lambda _result: None) -> None:
        for attempt in [each for each in self._attempts if each.is_over]:
            self._attempts.remove(attempt)  # only this thread removes, other threads may append
        try:
            self._jobs.run(job, lambda: self._stopping)
        except Overloaded as error:
            _log.error("%s", error)
            done(error)

    def _seconds_to_wait(self, next_poll: float) -> float | None:
        waits = [_LEAVING_CHECK_S] if self._unloader.leaving else []
        if self._poll_seconds:
            waits.append(max(0.0, next_poll - monotonic()))
        next_retry = self._retries.next_s()
        if next_retry is not None:
            waits.append(max(_LEAVING_CHECK_S, next_retry - monotonic()))  # retries of a busy model wait
        return min(waits, default=None)

    # -- orders --------------------------------------------------------------------------------------------------

    def _carry_out(self, order: LoadOrder) -> None:
        try:
            meant = sorted(self._meant(order.models), key=lambda served: self._jobs.is_busy(served.spec.name))
            outcomes = {served.spec.name: self._reload(served, order) for served in meant}
        except BrokerError as error:
            order.done(error)
        except Exception as error:
            _log.exception("models cannot be reloaded")
            order.done(
                BrokerError(f"the reload failed: {type(error).__name__}: {error}; see the broker's log")
            )
        else:
            order.done(outcomes)

    def _meant(self, names: tuple[str, ...]) -> list[ServedModel]:
        known = self._repository.served
        for name in names:
            if name not in known:
                there = ", ".join(sorted(known)) or "none"
                raise ModelNotFound(f"the broker serves no model {name!r}; it serves {there}")
            if known[name].adopted:
                raise InvalidInput(f"model {name!r} belongs to another module: change it there")
        return [known[name] for name in names] or [each for each in known.values() if not each.adopted]

    def _reload(self, served: ServedModel, order: LoadOrder) -> dict[str, Any]:
        with self._jobs.turn(served.spec.name):
            return self._reload_in_turn(served, order)

    def _reload_in_turn(self, served: ServedModel, order: LoadOrder) -> dict[str, Any]:
        if (order.policy or order.labels) and numbered(served.spec.source) is None:
            raise InvalidInput(
                f"model {served.spec.name!r} from {served.spec.source!r} has no numbered versions to "
                "choose from"
            )
        with self._repository.lock:
            before = served.policy, served.wanted_labels
            served.policy = order.policy or served.policy
            served.wanted_labels = {**served.wanted_labels, **order.labels}
        outcome = self._bring_up_to_date(served, again=True)
        with self._repository.lock:
            if not outcome.loaded and (outcome.failed or outcome.note):
                served.policy, served.wanted_labels = before
            return outcome.to_message(served)

    def _poll(self) -> None:
        """Load new or changed versions that are unchanged since the last poll, because before they may still be being
        copied."""
        for served in list(self._repository.served.values()):
            if not (self._stopping or served.adopted or self._jobs.is_busy(served.spec.name)):
                self._have_done(partial(self._poll_one, served))

    def _poll_one(self, served: ServedModel, due: Sequence[FailedVersion] = ()) -> None:
        with self._jobs.turn(served.spec.name):
            try:
                self._bring_up_to_date(served, again=False, due=due)
            except Exception:
                _log.exception("model %r cannot be polled", served.spec.name)

    def _retry(self) -> None:
        for name, served in list(self._repository.served.items()):
            due = self._retries.due(name, monotonic())
            if due and not (self._stopping or self._jobs.is_busy(name)):
                self._have_done(partial(self._poll_one, served, due))

    def _load_again(self, replacement: Replacement) -> None:
        with self._jobs.turn(replacement.served.spec.name):
            self._load_again_in_turn(replacement)

    def _load_again_in_turn(self, replacement: Replacement) -> None:
        served, old = replacement.served, replacement.old
        try:
            if old.model is not None and not self._unloader.end(old):
                self._unloader.leaving.append(old)
            self._load(served, replacement.again, LoadOutcome())
            with self._repository.lock:
                served.forget_ended()
            self._announce()
        except Exception:
            _log.exception("model %r cannot be loaded again", served.spec.name)

    # -- one model -----------------------------------------------------------------------------------------------

    def _bring_up_to_date(
        self, served: ServedModel, again: bool, due: Sequence[FailedVersion] = ()
    ) -> LoadOutcome:
        """`again`: also load versions that failed before, and an unchanged source. `due`: only these."""
        outcome = LoadOutcome()
        there = loading.find(served)
        wanted = [there[number] for number in loading.wanted_of(served, list(there))]
        if not wanted or (not wanted[0].is_numbered and any(each.is_numbered for each in served.versions)):
            outcome.note = f"there is no version to serve in {served.spec.source}; nothing was changed"
            return outcome
        coming = self._coming(served, wanted, again, due)
        if coming is None:
            return outcome
        going = _going(served.available, wanted, coming)
        first = served.spec.unload_first and bool(coming)
        if first and not self._unloader.unload(going, outcome, _UNLOAD_FIRST_S):
            self._unloader.put_back(going, coming, outcome)
            return outcome
        for version in coming:
            if not self._stopping:
                self._load(served, version, outcome)
        self._move_labels(served, outcome)
        if first and outcome.failed:
            self._load_back(served, going, outcome)
        elif not first:
            going = [old for old in going if old.number not in served.labels.values()]
            self._unloader.unload(going[: max(0, len(going) - _missing(served, wanted))], outcome, _UNLOAD_S)
        if coming or going:
            with self._repository.lock:
                served.forget_ended()
            self._announce()
        return outcome

    def _coming(
        self, served: ServedModel, wanted: list[Version], again: bool, due: Sequence[FailedVersion]
    ) -> list[Version] | None:
        """The versions to load now, which are shown from now on; None if nothing must change yet."""
        if due:  # failed versions keep their state until the outcome is known
            return list(self._retries.again(served, wanted, due)) or None
        coming = [version for version in wanted if _is_new(served, version, again)]
        if not again and self._not_settled(served, coming):
            return None
        with self._repository.lock:
            served.versions += coming
        return coming

    def _move_labels(self, served: ServedModel, outcome: LoadOutcome) -> None:
        """Point each label at its wanted version if that can be called now."""
        with self._repository.lock:
            there = {version.number for version in served.available}
            missing = {label: n for label, n in served.wanted_labels.items() if n not in there}
            labels = {
                **served.wanted_labels,
                **{label: served.labels.get(label, n) for label, n in missing.items()},
            }
            moved = labels != served.labels
            served.labels = labels
            self._repository.follow()
        for label, number in missing.items():
            outcome.note = f"label {label!r} cannot point at version {number}, which is not served"
        if moved:
            self._table_switch.switch()
            self._announce()

    def _not_settled(self, served: ServedModel, coming: list[Version]) -> bool:
        seen = {version.number: version.fingerprint for version in coming}
        before = self._seen.get(served.spec.name, {})
        self._seen[served.spec.name] = seen
        return not all(before.get(number) == fingerprint for number, fingerprint in seen.items())

    def _load(self, served: ServedModel, version: Version, outcome: LoadOutcome) -> None:
        name, number = served.spec.name, version.number
        put_back = loading.import_again(served.spec) if served.spec.is_function else None
        version.enter(VersionState.LOADING)
        self._announce()
        self._table_switch.expect_contention()
        try:
            version.spec = self._tuned(served, version)
            self.on_begin(name)
            attempt = LoadAttempt(version, partial(self._fill, version), close)
            self._attempts.append(attempt)
            attempt.run(self._load_seconds, lambda: self._stopping)
        except Exception as error:
            if not isinstance(error, ModelLoadError) and version not in self._retries:
                _log.exception("model %r, version %d", name, number)
            if put_back is not None:
                put_back()
            if not version.abandoned:
                close(version)
            version.failed = True
            self._show(served, version, VersionState.END, str(error) or type(error).__name__)
            outcome.failed[number] = version.cause
            again = self._retries.failed(version, monotonic())
            self._orders.put(None)  # wakes the loader's thread, which may wait for longer
            _log.error("%s; the versions served before stay in service%s", version.cause, again)
            self._announce()
            return
        finally:
            self.on_begin("")
        self._show(served, version, VersionState.AVAILABLE)
        self._retries.forget(FailedVersion.of(version))
        self.on_load(name)
        self._table_switch.switch()
        self._announce()
        outcome.loaded.append(number)
        _log.info("model %r: version %d is served", name, number)

    def _show(self, served: ServedModel, version: Version, state: VersionState, cause: str = "") -> None:
        """Set the state after a load."""
        with self._repository.lock:
            version.enter(state, cause)
            if version not in served.versions:
                served.versions.append(version)
            self._repository.follow()

    def _fill(self, version: Version) -> None:
        loading.load(version)
        loading.warm_up(version, self._repository.new_number, verdicts=self._repository.verdicts)

    def _tuned(self, served: ServedModel, version: Version) -> ModelSpec:
        """The spec with the settings measured for this version, or else those of its predecessor."""
        default = served.default
        before = default.model.spec if default is not None and default.model is not None else None
        return loading.taken_over(self._tune(version.spec), before)

    def _load_back(self, served: ServedModel, going: list[Version], outcome: LoadOutcome) -> None:
        """Load versions again that were unloaded to make room for a version that could not be loaded."""
        for old in going:
            again = Version(old.number, old.spec, old.fingerprint)
            with self._repository.lock:
                served.versions.append(again)
            self._load(served, again, outcome)


def _is_new(served: ServedModel, version: Version, again: bool) -> bool:
    """Whether the version must be loaded; `again` as for `Loader._bring_up_to_date`."""
    known = [each for each in served.versions if each.is_numbered == version.is_numbered]
    if version.is_numbered:
        known = [each for each in known if each.number == version.number]
    same = [each for each in known if each.fingerprint == version.fingerprint]
    if again:
        return not version.is_numbered or not any(each.is_available for each in same)
    return bool(version.fingerprint) and not any(each.is_available or each.failed for each in same)


def _going(available: list[Version], wanted: list[Version], coming: list[Version]) -> list[Version]:
    """The available versions that are no longer wanted, or that a coming version replaces."""
    if not wanted[0].is_numbered:
        return available if coming else []
    stay = {each.number for each in wanted} - {each.number for each in coming}
    return [old for old in available if old.number not in stay]


def _missing(served: ServedModel, wanted: list[Version]) -> int:
    """How many wanted versions cannot be called because their loads failed. For each of them, one old version stays in
    service, the latest first."""
    there = {each.number for each in served.available}
    return sum(version.number not in there for version in wanted)
