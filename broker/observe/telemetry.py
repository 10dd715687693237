"""Everything that one server reports about itself: its HTTP endpoint, and the answers of the control plane."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from time import time
from typing import TYPE_CHECKING, Any

from broker.counters.arrivals import Arrivals
from broker.observe.health import Call, Health
from broker.observe.present import with_present_state
from broker.observe.statistics import Statistics
from broker.observe.status import Status
from worker_client.wire.control import Message
from worker_client.wire.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from broker.config.settings import Settings
    from broker.control_plane.server import Handler, Peer, Reply
    from broker.data_plane.intake import Intake
    from broker.models.lifecycle.repository import Repository
    from broker.observe.http import MetricsEndpoint
    from broker.sharing.memory import Memory


class Observation:
    """The server's reports. Call `open` before the models are loaded, `watch` when all parts exist, `start` before the
    server's threads run, and `close` in any case."""

    def __init__(self, settings: Settings) -> None:
        self.arrivals = Arrivals()
        self._settings = settings
        self._began = time()
        self._endpoint: MetricsEndpoint | None = None
        self._health: Health | None = None

    def open(self) -> None:
        """Take the endpoint's addresses. Raises BrokerError."""
        settings = self._settings
        if settings.metrics_port is not None or settings.metrics_socket is not None:
            from broker.observe import prometheus  # noqa: F401 - so that `start` need not wait for it
            from broker.observe.http import MetricsEndpoint
            from broker.observe.page import view  # noqa: F401

            self._endpoint = MetricsEndpoint(
                settings.metrics_host, settings.metrics_port, settings.metrics_socket
            )

    @property
    def addresses(self) -> list[str]:
        """The HTTP addresses of metrics and health."""
        return [] if self._endpoint is None else self._endpoint.addresses

    def watch(
        self,
        path: Path,
        intake: Intake,
        memory: Memory,
        repository: Repository,
        sessions: Iterable[Peer],
        threads: Mapping[str, Call],
        idle: Callable[[], Message],
    ) -> None:
        """Set the parts to report on: `threads` as for `Health`, `idle` as for `Status`."""
        self._intake = intake
        self._repository = repository
        self._status = Status(path, intake, memory, sessions, self.addresses, idle, self._began)
        self._statistics = Statistics(
            intake, memory, repository, self.arrivals, path, self.addresses, self._settings.restarts
        )
        self._health = Health(threads)

    def start(self) -> None:
        """Start answering at the endpoint."""
        if self._endpoint is not None:
            from broker.observe import prometheus
            from broker.observe.page.view import View

            assert self._health is not None
            registry = prometheus.registry(self._statistics.message, own_version())
            view = View(own_version(), self._statistics.message, self._described)
            self._endpoint.start(registry, self._health, view)

    def begin_stop(self) -> None:
        """Report from now on that the broker is not ready."""
        if self._health is not None:
            self._health.stopping = True

    def close(self) -> None:
        if self._endpoint is not None:
            self._endpoint.close()

    def after_fork_in_child(self) -> None:
        if self._endpoint is not None:
            self._endpoint.after_fork_in_child()

    def _described(self) -> dict[str, Message]:
        """Of every model. Any thread may ask."""
        return with_present_state(self._repository.describe(), self._intake.served_signatures)

    # -- control thread ------------------------------------------------------------------------------------------

    def by_op(self) -> dict[str, Handler]:
        return {"models": self._models, "status": self._status_of, "stats": self._stats, "trace": self._trace}

    def _models(self, session: Peer, message: Message) -> Reply:
        return {"models": self._described()}, None

    def _status_of(self, session: Peer, message: Message) -> Reply:
        return {"status": self._status.message()}, None

    def _stats(self, session: Peer, message: Message) -> Reply:
        return {"stats": self._statistics.message()}, None

    def _trace(self, session: Peer, message: Message) -> Reply:
        """Handle a trace message; `do` is start, take or stop. Raises BrokerError for other users than the broker's
        own."""
        tracer, what = self._intake.tracer, message.get("do")
        if session.uid not in (os.geteuid(), 0):
            raise BrokerError("only the broker's own user can trace requests")
        taken: dict[str, Any] = {}
        if what == "start":
            tracer.start()
        elif what == "take":
            taken = tracer.take()
        elif what == "stop":
            tracer.stop()
            taken = tracer.take()
        else:
            raise BrokerError(f"trace must be start, take or stop, got {str(what)[:40]!r}")
        return taken, None


def own_version() -> str:
    try:
        return version("onesession")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"
