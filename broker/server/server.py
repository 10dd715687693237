"""One broker, put together: address, models, memory, intake thread, control thread; started and stopped in order."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from time import time, time_ns
from typing import Any, TypeGuard

from broker.config.settings import Settings, Tune
from broker.control_plane.address_lock import LOOK_SECONDS, Instance
from broker.control_plane.server import ControlServer, Handler, Reply, Session
from broker.counters.failures import FOREIGN_ANSWER
from broker.counters.run_record import RunRecord
from broker.data_plane.channel import Channel
from broker.data_plane.intake import Intake
from broker.data_plane.served_signature import describe
from broker.models.lifecycle import repository
from broker.models.lifecycle.load_orders import order_of
from broker.models.lifecycle.loader import Loader
from broker.models.lifecycle.repository import Repository
from broker.models.model import LoadedModel
from broker.models.spec import ModelSpec
from broker.models.tf import devices
from broker.observe.long_runs import long_runs
from broker.observe.present import with_present_state
from broker.observe.telemetry import Observation
from broker.server.lifeline import Lifeline
from broker.server.retirement import Idleness, Retirement
from broker.server.watch import Watch
from broker.sharing.access import Access
from broker.sharing.memory import Memory, path_of
from broker.tuning.tuner import tuned
from broker.tuning.verdicts import RememberedVerdicts
from worker_client.ipc import own_broker
from worker_client.ipc.event import Lent
from worker_client.ipc.waiting import WaitMode
from worker_client.system import threads
from worker_client.system.clock import monotonic, monotonic_ns
from worker_client.wire.address import socket_path
from worker_client.wire.control import Message, ProtocolError, error_fields
from worker_client.wire.errors import BrokerError

_log = logging.getLogger("onesession.server")

_END_OF_CONTROL_SECONDS = 5.0  # it never runs a model
_MAX_NAMES = 1000  # of tensors that one call of a session may name


class Server:
    """The broker in this process. `start` returns when workers can attach; `stop` drains and cleans up.

    `on_failure` is called, from the failing thread, if the intake or control thread ends with an exception. `adopted`
    are models that this process has already; `instance` is the address, if it is taken already. Workers can connect
    from the beginning, and are answered from `start` on. A child that is forked meanwhile lets go of all of it.
    `on_idle` is called, by the control thread, when there has been no worker for `idle_seconds`, and none can come.
    `on_hung` is called when a run has no end that nothing but the end of the process can end; `record` is where our
    parent reads what runs.
    """

    def __init__(
        self,
        settings: Settings,
        on_failure: Callable[[], None] = lambda: None,
        adopted: Sequence[LoadedModel] = (),
        instance: Instance | None = None,
        record: RunRecord | None = None,
        on_hung: Callable[[Server], None] | None = None,
        on_idle: Callable[[], None] | None = None,
    ) -> None:
        self.settings = settings
        record = record or RunRecord()
        self._record = record
        self._on_failure = on_failure
        self._hung_up = False
        self._started = time()
        self._epoch = time_ns()
        self._numbers = count(1)
        self._threads: list[threading.Thread] = []
        self.retired = False
        self._access = access = Access(settings.allow_uid, settings.allow_gid, settings.allow_sessions)
        self.instance = instance or Instance(socket_path(settings.address))
        self.observation = Observation(settings)
        try:
            self.observation.open()
            access.open_path(self.instance.path, self.instance.own_directory)
            devices.show_only(settings.visible_devices)
            specs = tuned(settings)  # before TensorFlow is imported
            own_broker.serve(self.instance.path)
            own_broker.enter("loads and warms it")
            try:
                verdicts = RememberedVerdicts()
                aside = settings.set_aside
                self.repository = repository.load(
                    specs, adopted=adopted, verdicts=verdicts, set_aside=aside, tell=self._load_begins
                )
            finally:
                own_broker.leave()
            _warn_of_failures(self.repository)
            self.memory = Memory(self.instance.prefix, settings.max_total_bytes, settings.max_channel_bytes)
            self.doorbell = self.memory.new_semaphore()
            self.instance.mark_alive(path_of(self.doorbell))
            access.give_doorbell(self.doorbell)
            self.intake = Intake(
                self.repository,
                self.doorbell,
                WaitMode(settings.wait),
                self._on_violation,
                record=record,
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
            self.loader.on_load = record.number_of
            handlers: dict[str, Handler] = {
                "attach": self._attach,
                "opened": self._opened,
                "slots": self._slots,
                "grow": self._grow,
                "shrink": self._shrink,
                "event": self._event,
                "foreign": self._foreign,
                "lifeline": self._lifeline,
                "models": self._models,
                "reload": self._reload,
                "ad_hoc": self._ad_hoc,
                "status": self._status,
                "stats": self.observation.stats,
                "trace": self.observation.trace,
            }
            self.control = ControlServer(self.instance.listener, handlers, self._on_end, access)
            self.control.regularly(LOOK_SECONDS, self._look_at_address)
            self._retirement = Retirement(self.instance)
            self._idleness: Idleness | None = None
            if on_idle is not None and settings.idle_seconds:
                self._on_idle, self._idleness = on_idle, Idleness(settings.idle_seconds, monotonic())
                self.control.regularly(min(LOOK_SECONDS, settings.idle_seconds / 4), self._look_at_idleness)
            end = None if on_hung is None else partial(on_hung, self)
            self.watch = Watch(self.intake, record, self.threads, self.loader.replace, end)
        except BaseException:
            self.observation.close()
            own_broker.end(self.instance.path)
            self.instance.release()
            raise

    def start(self) -> None:
        self.instance.note(os.getpid(), loading=False)  # before anybody is answered, who may ask for it then
        self.lifeline = Lifeline()
        for name, body in (("intake", self.intake.run), ("control", self.control.run)):
            thread = threading.Thread(
                target=self._guard, args=(body,), name=f"onesession-{name}", daemon=True
            )
            threads.start(thread)
            self._threads.append(thread)
        self.loader.start()
        self.watch.start()
        self.observation.start(self.instance.path, self.intake, self.memory, self.repository, self.threads)
        _running.add(self)

    def stop(self) -> bool:
        """Finish the accepted requests (at most `drain_seconds`), tell the workers, leave nothing behind. False if a
        run, or a load, has no end: then its thread is left, and the memory and the model that it uses."""
        _running.discard(self)
        self.observation.begin_stop()
        deadline = monotonic() + self.settings.drain_seconds
        loaded = self.loader.stop(_left(deadline))
        if not loaded:
            _log.warning("a model was still being loaded; it is given up")
        intake, control = self._threads
        self.intake.stop()
        intake.join(_left(deadline))
        drained = not intake.is_alive() and self.intake.join_runners(_left(deadline))
        if not drained:
            _log.warning("requests still ran after %g s and were given up", self.settings.drain_seconds)
        self.watch.stop()
        self.control.stop()
        control.join(_END_OF_CONTROL_SECONDS)
        self.lifeline.close()
        if drained:
            self.intake.close()
            self.doorbell.close()
            self.repository.close()
        self.observation.close()
        own_broker.end(self.instance.path)
        self.instance.release()
        self._retirement.finish()
        return drained and loaded and not control.is_alive()

    def hang_up(self) -> None:
        """End every connection, as the process's end would: whoever is just attaching were else told that all is well,
        and missed the names. Calls get no answer, so that they are run again on the next broker."""
        self._hung_up = True
        self.control.stop()
        self._threads[1].join(_END_OF_CONTROL_SECONDS)

    @property
    def threads(self) -> dict[str, Callable[[Callable[[], None]], None]]:
        """The threads on which all depends, each as the way to have it do something between two rounds."""
        return {"intake": self.intake.call, "control": self.control.call}

    def forget(self) -> None:
        """In a forked child: the workers must see their broker end when the parent does."""
        self.control.forget()
        self.lifeline.forget()
        self.observation.forget()
        self.instance.forget()

    def _load_begins(self, model: str) -> None:
        self._record.load_begins(model, monotonic_ns())

    def _guard(self, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException:
            _log.critical("the broker cannot go on", exc_info=True)
            self._on_failure()

    # -- control thread ------------------------------------------------------------------------------------------

    def _look_at_address(self) -> None:
        if not self.retired and self.instance.restore() is not None:
            self._access.open_path(self.instance.path, self.instance.own_directory)
            self.control.listen_at(self.instance.listener)

    def _look_at_idleness(self) -> None:
        assert self._idleness is not None
        workers = sum(session.channel is not None for session in self.control.sessions)
        if not self._idleness.look(workers, monotonic()) or self.retired or self.control.sessions:
            return
        self.retired = self._retirement.begin()
        if self.retired:
            _log.info("stopping: there has been no worker for %g s", self.settings.idle_seconds)
            self._on_idle()
        else:
            self._look_at_address()  # somebody has connected meanwhile
            self._retirement.put_off()

    def _attach(self, session: Session, message: Message) -> Reply:
        if session.channel is not None:
            raise ProtocolError(f"pid {session.pid} attached twice")
        if self.retired:  # it found the socket just before that went; the next broker will have it
            raise ProtocolError(f"pid {session.pid} came as this broker ended")
        channel = Channel(
            next(self._numbers),
            session.pid,
            self.memory,
            self.settings,
            lambda message, segment: self.control.push(session, message, segment),
            session.uid,
            self.intake.failures,
            self._access.may_run_sessions(session.uid),
            session.process,
        )
        channel.hang_up = lambda: self.control.hang_up(session)
        session.channel = channel
        self.intake.add(channel)
        self.observation.arrivals.attached += 1
        self.observation.arrivals.reattached += bool(message.get("again"))
        reply = {
            "epoch": self._epoch,
            "nbytes": channel.first_segment.nbytes,
            "submitted": channel.submitted.name,
            "bell": channel.bell.name,
            "doorbell": self.doorbell.name,
            "max_slots": self.settings.max_slots,
            "block": channel.first_block,
            "models": self.repository.describe(),
            "lifeline": self.lifeline.fd >= 0,
        }
        return reply, channel.first_segment

    def _opened(self, session: Session, message: Message) -> Reply:
        names = message.get("names")
        _channel_of(session).unlink_names(names if _are_names(names) else ())
        return {}, None

    def _slots(self, session: Session, message: Message) -> Reply:
        block, segment = _channel_of(session).add_slots()
        return {"nbytes": segment.nbytes, "block": block}, segment

    def _grow(self, session: Session, message: Message) -> Reply:
        segment = _channel_of(session).grow_input(message.get("slot"), message.get("nbytes"))
        return {"nbytes": segment.nbytes}, segment

    def _shrink(self, session: Session, message: Message) -> Reply:
        return {"region": _channel_of(session).shrink(message.get("slot"))}, None

    def _event(self, session: Session, message: Message) -> Reply:
        return {}, _channel_of(session).lend_event()

    def _foreign(self, session: Session, message: Message) -> None:
        """The worker closes its channel, and so may we: no reply."""
        why = str(message.get("why"))
        text = f"pid {session.pid}: {why}; its channel is closed"
        self.intake.failures.fault(FOREIGN_ANSWER, text, stack=False)

    def _lifeline(self, session: Session, message: Message) -> Reply:
        if self.lifeline.fd < 0:
            raise BrokerError("this broker's system lets no thread have descriptors of its own")
        return {}, Lent.copy(self.lifeline.fd)

    def _models(self, session: Session, message: Message) -> Reply:
        return {"models": with_present_state(self.repository.describe(), self.intake.servings)}, None

    def _reload(self, session: Session, message: Message) -> None:
        """The reply comes when it is done. Raises BrokerError."""
        if session.uid not in (os.geteuid(), 0):
            raise BrokerError("models can be reloaded by the broker's own user only")
        number = message.get("id")

        def done(result: Mapping[str, Any] | BrokerError) -> None:
            reply = error_fields(result) if isinstance(result, BrokerError) else {"models": result}
            self.control.push(session, {**reply, "re": number}, None)

        self.loader.order(order_of(message, done))

    def _tune(self, spec: ModelSpec) -> ModelSpec:
        """With what is remembered of it: while it serves, the broker measures nothing."""
        tune = Tune.OFF if self.settings.tune == Tune.OFF.value else Tune.REMEMBERED
        return tuned(replace(self.settings, models=(spec,), tune=tune.value))[0]

    def _models_changed(self) -> None:
        """Tell the workers, so that none need ask. Any thread."""
        self.control.call(self._announce)

    def _announce(self) -> None:
        self.control.announce({"op": "models", "models": self.repository.describe()})

    def _ad_hoc(self, session: Session, message: Message) -> Reply:
        model, feeds, fetches = (message.get(field) for field in ("model", "feeds", "fetches"))
        if not (isinstance(model, str) and _are_names(feeds) and _are_names(fetches)):
            raise ProtocolError(f"pid {session.pid} asked for tensors that are no names, or for too many")
        if not self._access.may_run_sessions(session.uid):
            raise BrokerError(
                f"workers of uid {session.uid} may not run sessions on this broker of uid {os.geteuid()}: call the "
                "models' signatures, or start it with allow_sessions (broker serve --allow-sessions)"
            )
        entry, operations, one_went = self.repository.ad_hoc(
            model, tuple(feeds), tuple(fetches), session.process
        )
        self.intake.serve(entry)
        if one_went:
            self.intake.follow()
        told = {"id": entry.id, "stateful": entry.stateful, "operations": operations}
        return {**entry.signature.to_message(), **told, "max_run_seconds": entry.max_run_seconds}, None

    def _status(self, session: Session, message: Message) -> Reply:
        channels = [session.channel for session in self.control.sessions if session.channel is not None]
        status = {
            "pid": os.getpid(),
            "address": os.fspath(self.instance.path),
            "uptime_seconds": time() - self._started,
            "shared_memory_bytes": self.memory.used_bytes,
            "max_total_bytes": self.memory.max_total_bytes,
            "workers": [_describe(channel) for channel in channels],
            "models": describe(self.intake.servings, self.intake.failures),
            "queues": self.intake.queues(),
            "faults": self.intake.failures.faults(),
            "long_runs": [run.to_message() for run in long_runs(self.intake, monotonic_ns())],
            "metrics": self.observation.addresses,
            "idle_seconds": None if self._idleness is None else self._idleness.seconds,
            "ends_in_seconds": None if self._idleness is None else self._idleness.seconds_left(monotonic()),
        }
        return {"status": status}, None

    def _on_end(self, session: Session) -> None:
        if self._hung_up:
            return
        channel, session.channel = session.channel, None  # which refers to the session
        if not any(session.process == each.process for each in self.control.sessions):
            self.repository.release(session.process)
        if channel is not None:
            channel.leave_process()
            self.observation.arrivals.detached += 1
            self.intake.remove(channel)
            if self._idleness is not None:
                self._idleness.worker_left(monotonic())

    def _on_violation(self, channel: Channel) -> None:
        for session in list(self.control.sessions):
            if session.channel is channel:
                self.control.drop(session)


def _left(deadline: float) -> float:
    return max(0.0, deadline - monotonic())


_running: weakref.WeakSet[Server] = weakref.WeakSet()


def _forget_all() -> None:
    for server in list(_running):
        server.forget()


os.register_at_fork(after_in_child=_forget_all)


def _warn_of_failures(repository: Repository) -> None:
    """A model that fails at warm-up is served all the same, since zeros may be illegal for it; but say so."""
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


def _describe(channel: Channel) -> Message:
    return {
        "pid": channel.pid,
        "slots": len(channel.slots),
        "in_flight": sum(slot.busy for slot in channel.slots),
        "requests": channel.requests,
        "shared_memory_bytes": channel.used_bytes,
    }


def _are_names(value: Any) -> TypeGuard[list[str]]:
    return (
        isinstance(value, list) and len(value) <= _MAX_NAMES and all(isinstance(name, str) for name in value)
    )


def _channel_of(session: Session) -> Channel:
    if session.channel is None:
        raise ProtocolError(f"pid {session.pid} has not attached")
    if session.channel.closed:
        raise ProtocolError(f"the channel of pid {session.pid} is closed")
    return session.channel
