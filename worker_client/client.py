"""`connect()`: the way in."""

from __future__ import annotations

import os
from types import TracebackType

from worker_client import timeouts
from worker_client.connection import Connection
from worker_client.metadata import ModelInfo
from worker_client.model import INTERACTIVE_PRIORITY, Model
from worker_client.session import Session
from worker_client.wire.address import socket_path
from worker_client.wire.waiting import WaitMode


class Client:
    """A process's way to one broker. Thread-safe; made before a fork, it serves every child with its own channel."""

    def __init__(self, connection: Connection, timeout: float | None) -> None:
        self._connection = connection
        self.timeout = timeout

    def __repr__(self) -> str:
        return f"<Client of {self._connection!r}>"

    def model(
        self,
        name: str,
        version: int | None = None,
        signature: str | None = None,
        *,
        timeout: float | None = None,
        priority: str = INTERACTIVE_PRIORITY,
    ) -> Model:
        """A handle on model `name`; its default signature if none is named. Asks nothing of the broker yet.

        `timeout` in seconds is the default of its calls in place of the client's. Calls of `priority` "bulk" let
        "interactive" ones go first, but for one batch in eight. Raises InvalidInput.
        """
        seconds = self.timeout if timeout is None else timeouts.checked(timeout)
        return Model(self._connection, name, version, signature, seconds, priority)

    def session(
        self, model: str, *, timeout: float | None = None, priority: str = INTERACTIVE_PRIORITY
    ) -> Session:
        """Stands in for a `tf.compat.v1.Session` of the model: `session.run("y:0", {"x:0": x})`. See `Session`."""
        seconds = self.timeout if timeout is None else timeouts.checked(timeout)
        return Session(self._connection, model, seconds, priority)

    def models(self) -> dict[str, ModelInfo]:
        """The models that the broker serves, by name. Raises BrokerUnavailable."""
        return dict(self._connection.models())

    def close(self) -> None:
        """Give up the channel. The next call would attach again."""
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(
    address: str | os.PathLike[str] | None = None,
    *,
    timeout: float | None = None,
    wait: str = WaitMode.ADAPTIVE.value,
) -> Client:
    """A client of the broker at `address`: a name, a socket path, or None for $BROKER_ADDRESS, else "default".

    `timeout` in seconds is the default of every call (float("inf") for none). Without it that is $BROKER_TIMEOUT, else
    the model's own setting, else 60, and under gunicorn less than the server's own worker timeout. `wait` is
    "adaptive"; "poll" and "block" exist to be compared with it. Nothing is sent before the first call, so a preloading
    server may call this before its broker runs and before it forks. Raises InvalidInput.
    """
    seconds = timeouts.of_environment() if timeout is None else timeouts.checked(timeout)
    return Client(Connection(socket_path(address), WaitMode(wait)), seconds)
