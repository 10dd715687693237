"""Which threads of this process run a broker's models, so that a model that calls its own broker gets an error at once.

It would wait for an answer that only its own thread could give, or another that waits for it. A broker in this process
says so here; this side never imports it.

In a process that is the broker's alone, whatever calls it belongs to a model, on whichever thread: one that the model
has started and waits for, say. An application that serves from its own process has other threads, which may call.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from worker_client.wire.errors import BrokerError

_paths: set[tuple[int, str]] = set()  # each with the process that serves there
_threads: dict[tuple[int, int], str] = {}
_alone: set[int] = set()  # processes that are a broker's, and nothing else


def be_alone() -> None:
    """This process is a broker's from now on, and nothing else."""
    _alone.add(os.getpid())


def serve(path: Path) -> None:
    """A broker of this process has this address."""
    _paths.add((os.getpid(), os.path.realpath(path)))


def end(path: Path) -> None:
    _paths.discard((os.getpid(), os.path.realpath(path)))


def enter(doing: str) -> None:
    """Models run on this thread from now on."""
    _threads[os.getpid(), threading.get_ident()] = doing


def leave() -> None:
    _threads.pop((os.getpid(), threading.get_ident()), None)


def is_at(path: Path) -> bool:
    """A broker of this process has this address, by whichever name."""
    return bool(_paths) and (os.getpid(), os.path.realpath(path)) in _paths


def check(path: Path) -> None:
    """Raises BrokerError where models run, if the broker at this address is the one it runs them for."""
    if is_at(path):
        check_thread(path)


def check_thread(path: Path) -> None:
    """The same, where a broker of this process is known to have this address."""
    pid = os.getpid()
    doing = _threads.get((pid, threading.get_ident()), "")
    if doing or pid in _alone:
        where = f"whose thread {doing}" if doing else "in whose process it runs"
        raise BrokerError(
            f"a model cannot call the broker that runs it (at {path}), {where}: the call would wait for itself. Have "
            "the worker call one model after the other, or put both into one function"
        )
