"""The brokers that serve at a name in one directory, however they were started."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.control_plane import locks
from broker.control_plane.query import ask
from worker_client.ipc import node_files
from worker_client.wire.address import VARIABLE, runtime_directory, socket_path
from worker_client.wire.errors import BrokerError, InvalidInput

_ANSWER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class LocalBroker:
    """One broker. `status` is its answer, None while it loads or does not answer; `state` says which."""

    path: Path
    pid: int
    status: dict[str, Any] | None
    state: str

    @property
    def name(self) -> str:
        return self.path.stem

    def describe(self) -> str:
        """`shop (pid 4711: digits, mean)`"""
        models = ", ".join(sorted((self.status or {}).get("models", ())))
        return f"{self.name} (pid {self.pid}: {models or self.state})"

    def to_message(self) -> dict[str, Any]:
        status = self.status or {}
        return {
            "name": self.name,
            "address": os.fspath(self.path),
            "pid": self.pid,
            "state": self.state,
            "uptime_seconds": status.get("uptime_seconds"),
            "models": sorted(status.get("models", ())),
            "workers": len(status["workers"]) if status else None,
        }


def found(directory: Path | None = None) -> list[LocalBroker]:
    """All live brokers, ordered by name."""
    return [_ask_status(path, pid) for path, pid in _live(directory or runtime_directory())]


def names() -> list[str]:
    """Of all that live at names of this user's. None of them is asked."""
    return [path.stem for path, _ in _live(runtime_directory())]


def address_of(name: str | None) -> str | None:
    """`name`. Without a name, without one in the environment and without a broker called `default`, the name of the
    only broker. Node brokers are left out: workers start them, and they end by themselves.

    Raises InvalidInput if there are several brokers.
    """
    if name is not None or os.environ.get(VARIABLE) or locks.holder(socket_path()) is not None:
        return name
    live = [(path, pid) for path, pid in _live(runtime_directory()) if not node_files.is_node(path)]
    if len(live) > 1:
        listed = ", ".join(_ask_status(path, pid).describe() for path, pid in live)
        raise InvalidInput(f"several brokers serve in {live[0][0].parent}: {listed}; choose one with --name")
    return os.fspath(live[0][0]) if live else None


def _live(directory: Path) -> list[tuple[Path, int]]:
    try:
        sockets = sorted(directory.glob("*.sock"))
    except OSError:
        return []
    holders = [(path, locks.holder(path)) for path in sockets]
    return [(path, pid) for path, pid in holders if pid is not None]


def _ask_status(path: Path, pid: int) -> LocalBroker:
    note = locks.note_at(path)
    if note is not None and note.loading:
        return LocalBroker(path, pid, None, "loading")
    try:
        return LocalBroker(path, pid, ask(os.fspath(path), "status", _ANSWER_SECONDS)["status"], "serving")
    except BrokerError:
        return LocalBroker(path, pid, None, "no answer")
