"""gunicorn: the broker lives and dies with the arbiter. The whole of it, in gunicorn.conf.py:

    from broker.integrations import gunicorn
    gunicorn.serve(globals(), models={"digits": "models/digits"})

    arbiter ---- starts ---> keeper ---- starts, and again when it dies ---> broker
      |  $BROKER_ADDRESS                                                       ^
      +---- forks ---> worker: worker_client.connect() ------------------------+

Each arbiter has a broker and an address of its own, so the two of an upgrade (SIGUSR2) do not meet: the old workers
stay with the old broker until the old arbiter ends. Workers need no hook: a client made before the fork
(`--preload`) attaches in each worker at its first call, and a worker's end is seen by its socket.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from broker.integrations.keeper import Keeper
from broker.models.spec import ModelSpec
from broker.settings import Settings
from worker_client.wire.address import VARIABLE, runtime_directory
from worker_client.wire.errors import BrokerError

Hook = Callable[..., Any]
_XDG = "XDG_RUNTIME_DIR"

_broker: ArbitersBroker | None = None


def serve(namespace: MutableMapping[str, Any], models: Mapping[str, Any], **options: Any) -> None:
    """Serve `models` to this gunicorn's workers; `namespace` is the configuration file's `globals()`.

    `models` and `options` are those of `broker.Broker`. Hooks that the file defines before are called as well. Where
    gunicorn's `user` drops the workers' privileges, that user is let in. Raises InvalidInput. The broker starts
    before the first worker and not with the file: an app that is preloaded may make its client when it is imported,
    but must not call it yet.
    """
    global _broker
    settings = Settings(models=tuple(ModelSpec.coerce_all(models)), **options)
    if _broker is None or not _broker.started:  # else the file is read again, for a reload
        _broker = ArbitersBroker()
    _broker.wanted = settings
    os.environ[VARIABLE] = os.fspath(_broker.path)  # now: a preloaded app is imported before any hook
    _chain(namespace, "on_starting", _broker.start)
    _chain(namespace, "when_ready", _broker.start)  # for a file that defines its on_starting below us
    _chain(namespace, "on_reload", _broker.on_reload)
    _chain(namespace, "on_exit", _broker.stop, last=True)


class ArbitersBroker:
    """The one broker of this arbiter."""

    def __init__(self) -> None:
        self.wanted = Settings(models=())
        self.path, self._without = _place()
        self._keeper: Keeper | None = None

    @property
    def started(self) -> bool:
        return self._keeper is not None

    def start(self, arbiter: Any) -> None:
        """Start the broker; end the arbiter if that fails."""
        if self._keeper is not None:
            return
        settings = self._settings(arbiter)
        names = ", ".join(spec.name for spec in settings.models)
        arbiter.log.info("Starting the broker of %s", names)
        environment = {key: text for key, text in os.environ.items() if key != self._without}
        keeper = Keeper(settings, environment)
        try:
            pid = keeper.start()
        except (BrokerError, OSError) as error:
            arbiter.log.critical("The broker cannot start: %s", error)
            sys.exit(1)
        self._keeper = keeper
        arbiter.log.info("Broker serves %s at %s (%s)", names, settings.address, pid)
        self._look_after(arbiter)

    def on_reload(self, arbiter: Any) -> None:
        """The broker stays as it is, and warm: say so, if the file now asks for another."""
        keeper = self._keeper
        if (
            keeper is not None
            and replace(self._settings(arbiter), tune=keeper.settings.tune) != keeper.settings
        ):
            arbiter.log.warning(
                "The broker's settings have changed: they come into force with an upgrade (SIGUSR2) or a restart"
            )

    def stop(self, _arbiter: Any) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.stop()

    def _settings(self, arbiter: Any) -> Settings:
        """As the file wants them, with the workers' user let in."""
        uid = arbiter.cfg.uid
        dropped = uid not in (os.geteuid(), *self.wanted.allow_uid)
        allowed = (*self.wanted.allow_uid, uid) if dropped else self.wanted.allow_uid
        return replace(self.wanted, address=os.fspath(self.path), allow_uid=allowed)

    def _look_after(self, arbiter: Any) -> None:
        """Have the arbiter look whether the keeper lives, whenever it counts its workers: at each SIGCHLD and second.

        There is no hook for that. The method is gunicorn's own name for it in all its versions.
        """
        manage_workers = arbiter.manage_workers

        def look_and_manage_workers() -> None:
            try:
                if self._keeper is not None and self._keeper.revive():
                    arbiter.log.error("The broker's keeper died; started another")
            except OSError as error:
                arbiter.log.error("The broker's keeper died, and no other can be started yet: %s", error)
            manage_workers()

        arbiter.manage_workers = look_and_manage_workers


def _place() -> tuple[Path, str]:
    """A socket of this arbiter's own, and the variable that would lead its broker elsewhere.

    A login session's directory is closed to others, so also to workers that are to be another user than root.
    """
    name = f"gunicorn-{secrets.token_hex(4)}.sock"
    base = os.environ.get(_XDG)
    if os.geteuid() != 0 or not base or _others_may_enter(base):
        return runtime_directory() / name, ""
    del os.environ[_XDG]
    try:
        return runtime_directory() / name, _XDG
    finally:
        os.environ[_XDG] = base


def _others_may_enter(directory: str) -> bool:
    try:
        return bool(os.stat(directory).st_mode & stat.S_IXOTH)
    except OSError:
        return False


def _chain(namespace: MutableMapping[str, Any], name: str, ours: Hook, *, last: bool = False) -> None:
    """Put our hook beside the one that is there; `last`: after it."""
    theirs: Hook | None = namespace.get(name)

    def hook(arbiter: Any) -> None:
        for each in (theirs, ours) if last else (ours, theirs):
            if each is not None:
                each(arbiter)

    namespace[name] = hook
