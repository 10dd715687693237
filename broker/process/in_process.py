"""A broker on threads of this process, for models that this process already has."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from broker.config.settings import Settings
from broker.models.model import LoadedModel
from broker.own_process import descriptors
from broker.server.server import Server

_log = logging.getLogger("onesession.broker")


class InProcess:
    """Has the interface of BrokerProcess. In a child forked later the handle behaves as if never started."""

    def __init__(self, settings: Settings, adopted: Sequence[LoadedModel]) -> None:
        self.settings = settings
        self._adopted = adopted
        self._server: Server | None = None
        self._pid = 0

    @property
    def pid(self) -> int | None:
        return self._pid if self._server is not None and self._pid == os.getpid() else None

    def start(self, seconds: float = 0.0) -> None:
        """Return when workers can attach. No model is loaded, so `seconds` is not needed. Raises BrokerError."""
        descriptors.open_missing()  # what TensorFlow writes to descriptor 2 must not go into a segment
        server = Server(self.settings, self._failed, self._adopted)
        server.start()
        self._server = server
        self._pid = os.getpid()

    def poll(self) -> int | None:
        """None: it lives as long as this process, or until `stop`."""
        return None

    def stop(self) -> None:
        """Finish the accepted requests. Idempotent."""
        server, self._server = self._server, None
        if server is not None and self._pid == os.getpid():
            server.stop()

    def _failed(self) -> None:
        _log.critical("the broker of this process has failed; workers get no more answers")
