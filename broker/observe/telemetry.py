"""What one server shows of itself, in one place: its endpoint, and what the control plane answers about it."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from broker.observe.health import Call, Health
from broker.observe.statistics import Arrivals, Statistics
from worker_client.wire.control import Message
from worker_client.wire.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from broker.config.settings import Settings
    from broker.control_plane.server import Reply, Session
    from broker.data_plane.intake import Intake
    from broker.data_plane.tracer import Tracer
    from broker.models.lifecycle.repository import Repository
    from broker.observe.http import Endpoint
    from broker.sharing.memory import Memory


class Observation:
    """`open` before the models are loaded, `start` when the server's threads run, `close` in any case."""

    def __init__(self, settings: Settings) -> None:
        self.arrivals = Arrivals()
        self._settings = settings
        self._endpoint: Endpoint | None = None
        self._health: Health | None = None
        self._statistics: Statistics | None = None
        self._tracer: Tracer | None = None

    def open(self) -> None:
        """Take the endpoint's addresses. Raises BrokerError."""
        settings = self._settings
        if settings.metrics_port is not None or settings.metrics_socket is not None:
            from broker.observe import prometheus  # noqa: F401 - so that `start` need not wait for it
            from broker.observe.http import Endpoint

            self._endpoint = Endpoint(settings.metrics_host, settings.metrics_port, settings.metrics_socket)

    @property
    def addresses(self) -> list[str]:
        """Where metrics and health are offered over HTTP."""
        return [] if self._endpoint is None else self._endpoint.addresses

    def start(
        self,
        path: Path,
        intake: Intake,
        memory: Memory,
        repository: Repository,
        threads: Mapping[str, Call],
    ) -> None:
        """The server's threads run; `threads` as for `Health`."""
        self._tracer = intake.tracer
        self._statistics = Statistics(
            intake, memory, repository, self.arrivals, path, self.addresses, self._settings.restarts
        )
        self._health = Health(threads)
        if self._endpoint is not None:
            from broker.observe import prometheus

            registry = prometheus.registry(self._statistics.message, own_version())
            self._endpoint.start(registry, self._health)

    def begin_stop(self) -> None:
        """From now on it is not ready."""
        if self._health is not None:
            self._health.stopping = True

    def close(self) -> None:
        if self._endpoint is not None:
            self._endpoint.close()

    def forget(self) -> None:
        """In a forked child."""
        if self._endpoint is not None:
            self._endpoint.forget()

    # -- control thread ------------------------------------------------------------------------------------------

    def stats(self, session: Session, message: Message) -> Reply:
        assert self._statistics is not None
        return {"stats": self._statistics.message()}, None

    def trace(self, session: Session, message: Message) -> Reply:
        """`do` is start, take or stop. Raises BrokerError for anyone but the broker's own user."""
        tracer, what = self._tracer, message.get("do")
        assert tracer is not None
        if session.uid not in (os.geteuid(), 0):
            raise BrokerError("requests can be traced by the broker's own user only")
        taken: dict[str, Any] = {}
        if what == "start":
            tracer.start()
        elif what == "take":
            taken = tracer.take()
        elif what == "stop":
            tracer.stop()
            taken = tracer.take()
        else:
            raise BrokerError(f"trace can be told to start, take or stop, got {str(what)[:40]!r}")
        return taken, None


def own_version() -> str:
    try:
        return version("onesession")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"
