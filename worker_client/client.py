"""`connect()` and the client that it returns, which makes handles on models."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from worker_client import timeouts
from worker_client.attachment.metadata import ModelInfo
from worker_client.in_process import address as inline
from worker_client.in_process.connection import connection_to
from worker_client.interpreter.face import face
from worker_client.ipc.waiting import WaitMode
from worker_client.model import INTERACTIVE_PRIORITY, Model, Priority
from worker_client.session import Session
from worker_client.system.clock import monotonic_ns
from worker_client.system.linux import check_linux
from worker_client.wire.address import first_served, places
from worker_client.wire.errors import InvalidInput

if TYPE_CHECKING or sys.platform == "linux":
    from worker_client.connection import Connection


class Client:
    """A process's access to one broker. It is thread-safe. If it is made before a fork, each child gets its own
    channel.

    It is a value, like its models and sessions: a copy or pickle holds the address and the options, never a channel.
    The copies in one process share a connection, which `close` closes for all of them.
    """

    def __init__(self, connection: Connection, timeout: float | None, retries: int = 1) -> None:
        self._connection = connection
        self.timeout = timeout
        self.retries = retries

    def __repr__(self) -> str:
        return f"<Client of {self._connection!r}>"

    def __dir__(self) -> list[str]:
        return face(super().__dir__(), ())

    @property
    def address(self) -> str:
        """The path of the broker's socket."""
        return os.fspath(self._connection.path)

    def __reduce__(self) -> tuple[type[Client], tuple[Any, ...]]:
        return type(self), (self._connection, self.timeout, self.retries)

    def model(
        self,
        name: str,
        version: int | str | None = None,
        signature: str | None = None,
        *,
        label: str | None = None,
        timeout: float | None = None,
        priority: Priority = INTERACTIVE_PRIORITY,
        retries: int | None = None,
        strict: bool = False,
    ) -> Model:
        """A handle on model `name`, by default on its default signature. Does not contact the broker yet.

        Without a `version`, calls go to the latest version served, and to the next one as soon as it is ready; a number
        keeps them on one version. `label`, or a `version` that is not a number, is a label in the broker's
        configuration ("stable", "canary"), which the calls follow. `timeout` (in seconds) and `retries` are defaults
        for its calls and override the client's; use `retries=0` for a model whose calls must not be run twice. Calls
        with `priority` "bulk" let "interactive" ones go first, except in one batch of eight. A `strict` handle does not
        cast inputs: their dtypes must equal the signature's. Raises InvalidInput.
        """
        checked_name(name)
        seconds = self.timeout if timeout is None else timeouts.checked(timeout)
        again = self.retries if retries is None else checked_retries(retries)
        wanted = checked_version(version, label)
        return Model(self._connection, name, wanted, signature, seconds, priority, again, strict)

    def session(
        self,
        model: str,
        *,
        timeout: float | None = None,
        priority: Priority = INTERACTIVE_PRIORITY,
        retries: int | None = None,
    ) -> Session:
        """Stands in for a `tf.compat.v1.Session` of the model: `session.run("y:0", {"x:0": x})`. See `Session`."""
        checked_name(model)
        seconds = self.timeout if timeout is None else timeouts.checked(timeout)
        again = self.retries if retries is None else checked_retries(retries)
        return Session(self._connection, model, seconds, priority, again)

    def models(self) -> dict[str, ModelInfo]:
        """The models that the broker serves, by name, with their versions and states. Raises BrokerUnavailable.

        The list is the latest that the broker sent, which it does at every change, so no request is needed.
        """
        seconds = timeouts.implied(None) if self.timeout is None else self.timeout
        deadline = monotonic_ns() + int(min(seconds, 1e9) * 1e9)
        return dict(self._connection.models(deadline, self.retries > 0))

    def close(self) -> None:
        """Close the channel. A later call attaches again."""
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
    retries: int = 1,
    wait: Literal["adaptive", "poll", "block"] = "adaptive",
) -> Client:
    """A client of the broker at `address`: a name, a socket path, or None for $BROKER_ADDRESS, else "default". The
    address "inline:NAME=SOURCE,..." stands for models in this process, without a broker: see `worker_client.testing`.

    `timeout` is the default timeout of every call in seconds (float("inf") for none). Without it, the default is
    $BROKER_TIMEOUT, else the model's own setting, else 60, and under gunicorn less than the server's own worker
    timeout. `retries` is how often a call whose broker goes away is run again on the next broker, for which it waits
    within its deadline; with 0 it fails at once. `wait` is "adaptive"; "poll" and "block" exist for comparison. Nothing
    is sent before the first call, so a preloading server may call this before the broker runs and before it forks.
    Raises InvalidInput; BrokerUnavailable where no broker can run, as that needs Linux.
    """
    seconds = timeouts.of_environment() if timeout is None else timeouts.checked(timeout)
    return Client(connection_at(address, checked_wait(wait)), seconds, checked_retries(retries))


def connection_at(address: str | os.PathLike[str] | None, mode: WaitMode) -> Connection:
    """To the broker there, or to the models of this process that the address names."""
    if (text := inline.of(address)) is not None:
        return _in_process(text)
    check_linux("A broker")
    found = places(address)
    return Connection(first_served(found), mode, found)


def connection_as_pickled(path: str, mode: WaitMode) -> Connection:
    """The same for an address in full, as a client is pickled with."""
    if inline.of(path) is not None:
        return _in_process(path)
    check_linux("A broker")
    return Connection(Path(path), mode)


def _in_process(text: str) -> Connection:
    connection: Connection = connection_to(text)
    return connection


def checked_wait(wait: Any) -> WaitMode:
    """The wait mode named `wait`. Raises InvalidInput for any other value."""
    try:
        return WaitMode(wait)
    except ValueError:
        ways = ", ".join(repr(mode.value) for mode in WaitMode)
        raise InvalidInput(f"wait must be one of {ways}, got {wait!r}") from None


def checked_name(name: Any) -> None:
    """Raises InvalidInput for anything that is not a model name."""
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"a model's name must be a string such as 'digits', got {name!r}")


def checked_version(version: Any, label: Any) -> int | str | None:
    """A version number, a label, or None for the latest version. Raises InvalidInput."""
    if label is not None:
        if version is not None:
            raise InvalidInput(f"give a version ({version!r}) or a label ({label!r}), not both")
        if not isinstance(label, str) or not label:
            raise InvalidInput(f"a label must be a string such as 'stable', got {label!r}")
        return label
    if isinstance(version, str) and version.isascii() and version.isdecimal():
        return int(version)
    if isinstance(version, bool) or not isinstance(version, (int, str, type(None))) or version == "":
        raise InvalidInput(f"a version must be an integer or a label, got {version!r}")
    return version


def checked_retries(retries: Any) -> int:
    """Raises InvalidInput for anything but an integer >= 0."""
    if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
        raise InvalidInput(f"retries must be an integer >= 0, got {retries!r}")
    return retries
