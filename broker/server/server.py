"""Assembles one broker: address, models, memory, intake thread, control thread; starts and stops them in order."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from broker.config.settings import Settings, Tune
from broker.control_plane.address_lock import CHECK_SECONDS, AddressLock
from broker.control_plane.handlers import Handlers
from broker.control_plane.server import ControlServer
from broker.counters.run_record import RunRecord
from broker.data_plane.channel import Channel
from broker.data_plane.intake import Intake
from broker.models.lifecycle import repository
from broker.models.lifecycle.loader import Loader
from broker.models.lifecycle.repository import Repository
from broker.models.model import LoadedModel
from broker.models.spec import ModelSpec
from broker.models.tf import devices
from broker.observe.telemetry import Observation
from broker.server.lifeline import Lifeline
from broker.server.presence import Presence
from broker.server.watchdog import Watchdog
from broker.sharing.access import Access
from broker.sharing.memory import Memory, path_of
from broker.tuning.tuner import tuned
from broker.tuning.verdicts import RememberedVerdicts
from worker_client.interpreter import fork, threads
from worker_client.ipc import own_broker
from worker_client.ipc.waiting import WaitMode
from worker_client.system.clock import monotonic, monotonic_ns
from worker_client.wire.address import socket_path

_log = logging.getLogger("onesession.server")

_END_OF_CONTROL_SECONDS = 5.0  # it never runs a model


class Server:
    """The broker in this process. `start` returns when workers are answered; `stop` drains and cleans up.

    `on_failure` is called, from the failing thread, if the intake or control thread ends with an exception. `adopted`
    are models that this process has already; `address_lock` is the address, if it is taken already. Workers can connect
    from the beginning, and are answered from `start` on. A child that is forked in the meantime releases everything.
    The control thread calls `on_idle` when there has been no worker for `idle_seconds`, and none can connect any more.
    `on_hung` is called when a run does not end and only the end of the process can end it; our parent reads from
    `record` what runs.
    """

    def __init__(
        self,
        settings: Settings,
        on_failure: Callable[[], None] = lambda: None,
        adopted: Sequence[LoadedModel] = (),
        address_lock: AddressLock | None = None,
        record: RunRecord | None = None,
        on_hung: Callable[[Server], None] | None = None,
        on_idle: Callable[[], None] | None = None,
    ) -> None:
        self.settings = settings
        record = record or RunRecord()
        self._record = record
        self._on_failure = on_failure
        self._threads: list[threading.Thread] = []
        access = Access(settings.allow_uid, settings.allow_gid, settings.allow_sessions)
        self.address_lock = address_lock or AddressLock(socket_path(settings.address))
        self.observation = Observation(settings)
        try:
            self.observation.open()
            access.open_path(self.address_lock.path, self.address_lock.own_directory)
            self._load_models(adopted)
            self._put_together(access, on_idle)
            end = None if on_hung is None else partial(on_hung, self)
            self.watch = Watchdog(self.intake, record, self.threads, self.loader.replace, end)
        except BaseException as error:
            if isinstance(error, Exception):
                self.address_lock.note_failure(str(error) or type(error).__name__)
            self.observation.close()
            own_broker.end(self.address_lock.path)
            self.address_lock.release()
            raise

    def _load_models(self, adopted: Sequence[LoadedModel]) -> None:
        settings = self.settings
        devices.show_only(settings.visible_devices)
        specs = tuned(settings)  # before TensorFlow is imported
        own_broker.serve(self.address_lock.path)
        own_broker.enter("loads and warms it")
        try:
            verdicts = RememberedVerdicts()
            aside = settings.set_aside
            self.repository = repository.load(
                specs, adopted=adopted, verdicts=verdicts, set_aside=aside, on_load_begin=self._load_begins
            )
        finally:
            own_broker.leave()
        _warn_of_failures(self.repository)

    def _put_together(self, access: Access, on_idle: Callable[[], None] | None) -> None:
        settings, path = self.settings, self.address_lock.path
        self.memory = Memory(self.address_lock.prefix, settings.max_total_bytes, settings.max_channel_bytes)
        self.doorbell = self.memory.new_semaphore()
        self.address_lock.mark_alive(path_of(self.doorbell))
        access.give_doorbell(self.doorbell)
        self.intake = Intake(
            self.repository,
            self.doorbell,
            WaitMode(settings.wait),
            self._on_violation,
            record=self._record,
            suspects=settings.suspects,
        )
        self.loader = Loader(
            self.repository,
            self.intake,
            self._tune,
            self._models_changed,
            settings.poll_seconds,
            settings.start_seconds,
        )
        self.loader.on_begin = self._load_begins
        self.loader.on_load = self._record.number_of
        self._presence = presence = Presence(self.address_lock, access, settings.idle_seconds, on_idle)
        self._handlers = Handlers(
            settings=settings,
            access=access,
            repository=self.repository,
            memory=self.memory,
            doorbell=self.doorbell,
            intake=self.intake,
            loader=self.loader,
            arrivals=self.observation.arrivals,
            lifeline_fd=lambda: self.lifeline.fd,
            retired=lambda: presence.retired,
            worker_left=presence.worker_left,
        )
        handlers = {**self._handlers.by_op(), **self.observation.by_op()}
        self.control = ControlServer(self.address_lock.listener, handlers, self._handlers.on_end, access)
        self._handlers.control = self.control
        presence.watch(self.control)
        self.control.regularly(CHECK_SECONDS, self.intake.polling.sample_quota)
        parts = self.intake, self.memory, self.repository, self.control.sessions, self.threads
        self.observation.watch(path, *parts, presence.message)

    def start(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve. `on_ready` is called before any worker is answered, because a call may stop this thread: a model that
        holds the interpreter's lock, and that only whoever knows that we serve will end."""
        self.address_lock.note(os.getpid(), loading=False)  # before workers are answered
        self.lifeline = Lifeline()
        self.observation.start()  # before a status can name its address
        may_answer = threading.Event()

        def answer() -> None:
            may_answer.wait()
            self.control.run()

        try:
            for name, body in (("intake", self.intake.run), ("control", answer)):
                thread = threading.Thread(
                    target=self._guard, args=(body,), name=f"onesession-{name}", daemon=True
                )
                threads.start(thread)
                self._threads.append(thread)
            self.loader.start()
            self.watch.start()
            fork.register(self, Server.after_fork_in_child)
            on_ready()
        finally:
            may_answer.set()

    def stop(self) -> bool:
        """Finish the accepted requests (at most `drain_seconds`), notify the workers, leave nothing behind. False if a
        run, or a load, does not end: then its thread stays, with the memory and the model that it uses."""
        fork.unregister(self)
        self.observation.begin_stop()
        deadline = monotonic() + self.settings.drain_seconds
        loaded = self.loader.stop(_left(deadline))
        if not loaded:
            _log.warning("a model was still being loaded; the load is abandoned")
        intake, control = self._threads
        self.intake.stop()
        intake.join(_left(deadline))
        drained = not intake.is_alive() and self.intake.join_runners(_left(deadline))
        if not drained:
            _log.warning("requests still ran after %g s and were abandoned", self.settings.drain_seconds)
        self.watch.stop()
        self.control.stop()
        control.join(_END_OF_CONTROL_SECONDS)
        self.lifeline.close()
        if drained:
            self.intake.close()
            self.doorbell.close()
            self.repository.close()
        self.observation.close()
        own_broker.end(self.address_lock.path)
        self.address_lock.release()
        self._presence.finish()
        return drained and loaded and not control.is_alive()

    def disconnect(self) -> None:
        """End every connection, as the end of the process would: otherwise a worker that is just attaching would get a
        successful reply, but not find the names. Calls get no answer, so that they run again on the next broker."""
        self._handlers.disconnected = True
        self.control.stop()
        self._threads[1].join(_END_OF_CONTROL_SECONDS)

    @property
    def retired(self) -> bool:
        """Whether it has released its address before its stop, because it had no workers."""
        return self._presence.retired

    @property
    def threads(self) -> dict[str, Callable[[Callable[[], None]], None]]:
        """The threads on which everything depends, each as a function that has it run an action between two rounds."""
        return {"intake": self.intake.call, "control": self.control.call}

    def after_fork_in_child(self) -> None:
        """Release everything, so that workers see their broker end when the parent ends."""
        fork.unregister(self)
        self.control.after_fork_in_child()
        self.lifeline.after_fork_in_child()
        self.observation.after_fork_in_child()
        self.address_lock.after_fork_in_child()

    def _load_begins(self, model: str) -> None:
        self._record.load_begins(model, monotonic_ns())

    def _guard(self, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException:
            _log.critical("the broker cannot go on", exc_info=True)
            self._on_failure()

    def _tune(self, spec: ModelSpec) -> ModelSpec:
        """Apply remembered measurements: while it serves, the broker measures nothing."""
        tune = Tune.OFF if self.settings.tune == Tune.OFF.value else Tune.REMEMBERED
        return tuned(replace(self.settings, models=(spec,), tune=tune.value))[0]

    def _models_changed(self) -> None:
        self.control.call(self._handlers.announce_models)

    def _on_violation(self, channel: Channel) -> None:
        self._handlers.drop(channel)


def _left(deadline: float) -> float:
    return max(0.0, deadline - monotonic())


def _warn_of_failures(repository: Repository) -> None:
    """Log warnings for models that failed at warm-up: they are served anyway, because zeros may be invalid input for
    them."""
    for entry in repository.entries:
        if entry is not None and entry.cost.note is not None:
            meant = entry.stateful or entry.model.spec.warmup is False
            _log.log(
                logging.INFO if meant else logging.WARNING,
                "model %r, signature %r: %s",
                entry.model.spec.name,
                entry.signature.name,
                entry.cost.note,
            )
