"""The node brokers that workers have started, and files that dead ones left: found by the files beside their
sockets."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from broker.control_plane import locks
from broker.control_plane.query import ask
from worker_client.ipc import node_files
from worker_client.ipc.node_files import StartLock
from worker_client.wire.errors import BrokerError

_SUFFIX = re.compile(r"\.(sock|sock\.lock|start|toml|log)$")
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class NodeBroker:
    """One node broker. `status` is its answer, None without one; `starting`: a process holds its start lock. `error` is
    the reason why it could not start the last time."""

    path: Path
    models: tuple[str, ...]
    status: dict[str, Any] | None
    starting: bool
    error: str
    log: str

    @property
    def alive(self) -> bool:
        return self.status is not None or self.starting or locks.holder(self.path) is not None

    def describe(self) -> str:
        return f"{self.path.name}: {self._state(', '.join(self.models) or 'unknown models')}; log {self.log}"

    def _state(self, served: str) -> str:
        if self.status is not None:
            workers = len(self.status["workers"])
            end = f", {ends_after(self.status)}" if self.status.get("idle_seconds") else ""
            return f"pid {self.status['pid']} serves {served}, {workers} worker{'s' * (workers != 1)}{end}"
        holder = locks.holder(self.path)
        if holder is not None:
            return f"pid {holder} does not answer yet ({served})"
        if self.starting:
            return f"is being started ({served})"
        return f"could not start ({served}): {self.error}" if self.error else f"has died ({served})"

    def to_message(self) -> dict[str, Any]:
        return {
            "address": os.fspath(self.path),
            "models": list(self.models),
            "pid": None if self.status is None else self.status["pid"],
            "alive": self.alive,
            "error": self.error,
            "log": self.log,
            "text": self.describe(),
        }


def ends_after(status: dict[str, Any]) -> str:
    """When a broker with `idle_seconds` ends, by its own status."""
    left = status.get("ends_in_seconds")
    now = f" (in {left:.0f} s)" if left is not None else ""
    return f"ends after {status['idle_seconds']:g} s without workers{now}"


def found(directory: Path) -> list[NodeBroker]:
    """All node brokers that have files in this directory."""
    return [_ask_status(path) for path in _sockets(directory)]


def sweep(directory: Path) -> list[Path]:
    """Remove the files of dead node brokers, and return their paths."""
    removed = []
    for path in _sockets(directory):
        for file in _sweep_one(path):
            with contextlib.suppress(OSError):
                file.unlink()
                removed.append(file)
    return removed


def _sweep_one(path: Path) -> Iterator[Path]:
    """Remove its files under its start lock, so that no process starts it in the meantime."""
    try:
        lock = StartLock.take(path)
    except BrokerError:  # it belongs to another user
        return
    if lock is None:
        return
    try:
        if locks.holder(path) is None and _status(path) is None:
            yield from sorted(
                file for file in path.parent.glob(f"{path.stem}.*") if file.is_file() or file.is_socket()
            )
    finally:
        lock.release()


def _sockets(directory: Path) -> list[Path]:
    names: set[str] = set()
    with contextlib.suppress(OSError):
        names = {_SUFFIX.sub("", name) + ".sock" for name in os.listdir(directory)}
    return sorted(path for name in names if node_files.is_node(path := directory / name))


def _ask_status(path: Path) -> NodeBroker:
    note = StartLock.peek(path)
    log = note.log if note is not None and note.log else os.fspath(node_files.of_log(path))
    error = "" if note is None else note.error
    return NodeBroker(path, _models(path), _status(path), StartLock.is_held(path), error, log)


def _models(path: Path) -> tuple[str, ...]:
    try:
        return tuple(tomllib.loads(node_files.of_config(path).read_text(encoding="utf-8")).get("models", ()))
    except (OSError, ValueError):
        return ()


def _status(path: Path) -> dict[str, Any] | None:
    try:
        return dict(ask(os.fspath(path), "status", _ANSWER_SECONDS)["status"])
    except BrokerError:
        return None
