"""Which threads of this process a broker's models run on, so that a model that calls its own broker is told at once.

It would wait for an answer that only its own thread could give, or another that waits for it. A broker in this process
says so here; this side never imports it.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from worker_client.wire.errors import BrokerError

_paths: set[tuple[int, Path]] = set()  # each with the process that serves there
_threads: dict[tuple[int, int], str] = {}


def serve(path: Path) -> None:
    """A broker of this process has this address."""
    _paths.add((os.getpid(), path))


def end(path: Path) -> None:
    _paths.discard((os.getpid(), path))


def enter(doing: str) -> None:
    """Models run on this thread from now on."""
    _threads[os.getpid(), threading.get_ident()] = doing


def leave() -> None:
    _threads.pop((os.getpid(), threading.get_ident()), None)


def is_at(path: Path) -> bool:
    """A broker of this process has this address."""
    return bool(_paths) and (os.getpid(), path) in _paths


def check(path: Path) -> None:
    """Raises BrokerError on a thread that runs models, if the broker at this address is the one it runs them for."""
    if not is_at(path):
        return
    doing = _threads.get((os.getpid(), threading.get_ident()))
    if doing is not None:
        raise BrokerError(
            f"a model cannot call the broker that runs it (at {path}), whose thread {doing}: the call would wait for "
            "itself. Have the worker call one model after the other, or put both into one function"
        )
