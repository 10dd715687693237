"""A process of its own at the other end of a socket. What it writes is kept, for the error if it fails."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from worker_client.wire.errors import BrokerError

if TYPE_CHECKING:
    from typing_extensions import Self

STOP_SECONDS = 20.0
ENDED = "ended by itself"
_SAID_LINES = 20


class LinkedProcess:
    """A running command. `command` gives its words, from the number of the socket that the process has."""

    def __init__(
        self,
        command: Callable[[str], list[str]],
        environment: Mapping[str, str],
        directory: Path | None = None,
        own_session: bool = False,
    ) -> None:
        self._output: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                command(str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                cwd=directory,
                env={**os.environ, **environment},
                start_new_session=own_session,
            )
        self._connection = Connection(ours.detach())

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def send(self, message: Any) -> None:
        """Raises what `failed` makes."""
        try:
            self._connection.send(message)
        except ConnectionError:
            raise self.failed(ENDED) from None

    def receive(self, seconds: float) -> Any:
        """The next message. Raises what `failed` makes; a message that is a BrokerError is raised."""
        try:
            if not self._connection.poll(seconds):
                raise self.failed(f"did not answer within {seconds:g} s")
            message = self._connection.recv()
        except (EOFError, ConnectionError):
            raise self.failed(ENDED) from None
        if isinstance(message, BrokerError):
            raise message
        return message

    def ask(self, message: Any, seconds: float) -> Any:
        self.send(message)
        return self.receive(seconds)

    def failed(self, why: str) -> Exception:
        """The error for a process that failed."""
        return BrokerError("\n".join([f"process {self.pid} {why}", *self.last_lines()]))

    def last_lines(self) -> list[str]:
        """The last lines that it and its children have written."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace").strip().splitlines()[-_SAID_LINES:]

    def stop(self) -> None:
        """Close the socket, at which the process ends; kill it if it does not. Idempotent."""
        self._connection.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()  # and the kernel kills its workers
            self._process.wait()
        self._output.close()
