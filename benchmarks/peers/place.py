"""What a peer's server and its callers have in common: files, ports, the model."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.arms.one_worker.answering import answering

_PORTS = 3
HOST = "127.0.0.1"


@dataclass(frozen=True)
class ServerPlace:
    """`directory` is the server's own, and short enough for Unix sockets in it. `ports` are free ones of HOST.

    A request is `rows` of float32 [n, *row]; an answer float32 [n, *answer].
    """

    directory: str
    ports: tuple[int, ...]
    workload: str
    model: str | None
    threads: int
    row: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def socket(self) -> str:
        return str(Path(self.directory, "socket"))

    def callable(self) -> Callable[[np.ndarray], np.ndarray]:
        """The same for every peer and the broker: the bare callable of the model, on the caller's thread."""
        return answering(self.workload, self.model, self.threads)

    def rows(self, raw: bytes) -> np.ndarray:
        """The rows in the bytes of a request. float32 [n, *row]"""
        return np.frombuffer(raw, np.float32).reshape(-1, *self.row)

    def answers(self, raw: bytes) -> np.ndarray:
        """float32 [n, *answer]"""
        return np.frombuffer(raw, np.float32).reshape(-1, *self.answer)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ServerPlace:
        said = json.loads(text)
        lists = {name: tuple(value) for name, value in said.items() if isinstance(value, list)}
        return cls(**{**said, **lists})


def free_ports() -> tuple[int, ...]:
    """Different ports on which no process listened a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(_PORTS)]
        return tuple(each.getsockname()[1] for each in sockets)
