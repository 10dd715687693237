"""Runs the broker with gunicorn: it starts and ends with the arbiter. gunicorn.conf.py only needs this:

    from broker.integrations import gunicorn
    gunicorn.serve(globals(), models={"digits": "models/digits"})

    arbiter ---- starts, and again when it dies ---> broker
      |  $BROKER_ADDRESS                               ^
      +---- forks ---> worker: worker_client.connect() +

Each arbiter has its own broker and address (`free_address.py`), so the two arbiters of an upgrade (SIGUSR2) do not
interfere: the old workers stay with the old broker until the old arbiter ends. Workers need no hook: a client made
before the fork (`--preload`) attaches in each worker at its first call, the broker notices a worker's end by its
socket, and gunicorn's `timeout` is in the environment that workers inherit.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker.config.settings import Settings
from broker.integrations.free_address import FreeAddress
from broker.models.spec import ModelSpec
from broker.supervision.supervisor import Supervisor
from worker_client.ipc import server_timeout as server
from worker_client.system.clock import monotonic
from worker_client.wire.address import DEFAULT, VARIABLE, socket_path
from worker_client.wire.errors import BrokerError, InvalidInput

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from broker.config.options import StartOptions

Hook = Callable[..., Any]
_XDG = "XDG_RUNTIME_DIR"
_RESPITE_SECONDS = 30.0
"""Pause after so many failures that another start is unlikely to help; the app may have pages that need no model."""

_OF_COMMANDS = {"log_level": "info"}
"""As with `onesession run`: the server's log shows that models are loaded, tuned and served."""

_broker: ArbitersBroker | None = None


def serve(
    namespace: MutableMapping[str, Any] | None = None,
    models: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    config: str | os.PathLike[str] | None = None,
    **options: Unpack[StartOptions],
) -> None:
    """Serve `models`, or those of the configuration file `config`. `namespace` is gunicorn.conf.py's `globals()`.

    `models` and `options` are those of `broker.Broker`. `config` is a file as for `onesession serve --config`;
    `options` and `name` override what it says.

    The broker has the address of `name` ("default" if neither this nor the file gives one), as with `onesession serve
    --name`; or NAME-2, NAME-3 and so on if another app's broker has that name, or the old arbiter's during an upgrade.

    Hooks that gunicorn.conf.py defines before this call are called as well. If gunicorn's `user` drops the workers'
    privileges, that user may attach. The broker starts before the first worker, not when the file is read: a preloaded
    app may make its client when it is imported, but must not call it yet.

    Raises InvalidInput, with a line for each problem in `config`.
    """
    global _broker
    if not isinstance(namespace, MutableMapping):
        raise InvalidInput(
            "the first argument of gunicorn.serve must be gunicorn.conf.py's globals(), got "
            f"{namespace!r}; write "
            'gunicorn.serve(globals(), models={"digits": "models/digits"})'
        )
    settings, file_name = _wanted(models, config, options)
    name = name or file_name or DEFAULT
    if _broker is None or not _broker.started:  # otherwise gunicorn reads the file again, for a reload
        if _broker is not None:
            _broker.address.release()
        _broker = ArbitersBroker(name)
    _broker.wanted, _broker.wanted_name = settings, name
    os.environ[VARIABLE] = os.fspath(_broker.path)  # now: a preloaded app is imported before any hook
    _chain(namespace, "on_starting", _broker.start)
    _chain(namespace, "when_ready", _broker.start)  # for a file that defines its on_starting after this call
    _chain(namespace, "on_reload", _broker.on_reload)
    _chain(namespace, "on_exit", _broker.stop, last=True)


def _wanted(
    models: Mapping[str, Any] | None, config: str | os.PathLike[str] | None, options: Mapping[str, Any]
) -> tuple[Settings, str | None]:
    """And the broker's name, if the file gives one."""
    if models is not None and config is None:
        return Settings.of(ModelSpec.coerce_all(models), {**_OF_COMMANDS, **options}), None
    if models is not None or config is None:
        raise InvalidInput('gunicorn.serve takes either models={...} or config="broker.toml"')
    from broker.config.file import (
        read,
    )  # here: each import costs every worker memory

    file = read(config)
    return Settings.of(file.models, {**_OF_COMMANDS, **file.settings, **options}), file.name


class ArbitersBroker:
    """The broker of this arbiter, which is its direct parent: no other process or thread is between them."""

    def __init__(self, name: str) -> None:
        """Raises InvalidInput if `name` is not a valid name."""
        self.wanted = self._served = Settings(models=())
        self.wanted_name = self._name = name
        wanted, self._hidden = _place(name)
        self.address = FreeAddress(wanted)
        self.path = self.address.path
        self._supervisor: Supervisor | None = None
        self._next_poll = 0.0

    @property
    def started(self) -> bool:
        return self._supervisor is not None

    def start(self, arbiter: Any) -> None:
        """Start the broker; end the arbiter if that fails."""
        if self._supervisor is not None:
            return
        server.set_timeout(arbiter.cfg.timeout)
        settings = self._settings(arbiter)
        _log_with(arbiter)
        try:
            with _without(self._hidden):
                self._supervisor = _ready(settings)
            self._served = settings
        except BrokerError as error:
            arbiter.log.critical("The broker cannot start: %s", error)
            sys.exit(1)
        except KeyboardInterrupt:  # gunicorn has no handler for it before its workers start
            sys.exit(128 + signal.SIGINT)
        self._check_after(arbiter)

    def on_reload(self, arbiter: Any) -> None:
        """The broker keeps running with its models loaded. Logs a warning if the file now has other settings."""
        server.set_timeout(arbiter.cfg.timeout)
        changed = self.wanted_name != self._name or self._settings(arbiter) != self._served
        if self._supervisor is not None and changed:
            arbiter.log.warning(
                "The broker's settings have changed: they take effect with an upgrade (SIGUSR2) or a restart"
            )

    def stop(self, _arbiter: Any) -> None:
        """Make the broker finish the accepted requests; return when it has ended."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.release()
            self.address.release()

    def _settings(self, arbiter: Any) -> Settings:
        """The settings of the file, with access for the workers' user."""
        uid = arbiter.cfg.uid
        dropped = uid not in (os.geteuid(), *self.wanted.allow_uid)
        allowed = (*self.wanted.allow_uid, uid) if dropped else self.wanted.allow_uid
        return replace(self.wanted, address=os.fspath(self.path), allow_uid=allowed)

    def _check_after(self, arbiter: Any) -> None:
        """Have the arbiter check the broker whenever it counts its workers: at each SIGCHLD and each second.

        There is no hook for that. Both methods have these names in all versions of gunicorn. It reaps every child that
        has ended, in old versions inside its signal handler, so only the exit status is taken there.
        """
        manage_workers, reap_workers = arbiter.manage_workers, arbiter.reap_workers

        def poll_and_manage_workers() -> None:
            self._poll_supervisor(arbiter)
            manage_workers()

        def take_status_and_reap_workers() -> None:
            if self._supervisor is not None:
                self._supervisor.take_exit_status()
            reap_workers()

        arbiter.manage_workers = poll_and_manage_workers
        arbiter.reap_workers = take_status_and_reap_workers

    def _poll_supervisor(self, arbiter: Any) -> None:
        if self._supervisor is None or monotonic() < self._next_poll:
            return
        try:
            with _without(self._hidden):
                self._supervisor.poll()
        except BrokerError as error:
            self._next_poll = monotonic() + _RESPITE_SECONDS
            arbiter.log.critical("%s (next try in %g s)", error, _RESPITE_SECONDS)


def _ready(settings: Settings) -> Supervisor:
    """A supervisor whose broker answers workers. Raises BrokerError."""
    supervisor = Supervisor(settings)
    try:
        while True:
            supervisor.poll()
            if supervisor.ready:
                return supervisor
            time.sleep(supervisor.seconds_to_next_poll or 0.0)
    except BaseException:
        supervisor.release()
        raise


def _log_with(arbiter: Any) -> None:
    """Write log lines of the supervisor to gunicorn's error log."""

    class ToArbiter(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            arbiter.log.error_log.handle(record)

    logger = logging.getLogger("onesession.keeper")
    logger.handlers = [ToArbiter()]
    logger.propagate = False


def _place(name: str) -> tuple[Path, str]:
    """The socket of this name, and the variable that must be hidden from its broker.

    A login session's directory is closed to other users, and so to workers that drop root's privileges.
    """
    base = os.environ.get(_XDG)
    if os.geteuid() != 0 or not base or _others_may_enter(base):
        return socket_path(name), ""
    with _without(_XDG):
        return socket_path(name), _XDG


@contextlib.contextmanager
def _without(variable: str) -> Iterator[None]:
    """Remove the variable from the environment of the block, and of processes that it starts."""
    text = os.environ.pop(variable, None)
    try:
        yield
    finally:
        if text is not None:
            os.environ[variable] = text


def _others_may_enter(directory: str) -> bool:
    try:
        return bool(os.stat(directory).st_mode & stat.S_IXOTH)
    except OSError:
        return False


def _chain(namespace: MutableMapping[str, Any], name: str, ours: Hook, *, last: bool = False) -> None:
    """Add our hook to an existing one, before it, or after it if `last`."""
    theirs: Hook | None = namespace.get(name)

    def hook(arbiter: Any) -> None:
        for each in (theirs, ours) if last else (ours, theirs):
            if each is not None:
                each(arbiter)

    namespace[name] = hook
