"""Which threads of this process run a broker's models, so that a model that calls its own broker gets an error at once.

Such a call would wait for an answer that only its own thread could give, or a thread that waits for it. A broker in
this process registers here, because worker_client never imports it.

In a process that only runs the broker, every call comes from a model, on whatever thread, for example on a thread that
the model started and waits for. An application that serves from its own process has other threads, which may call.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from weakref import WeakValueDictionary

from worker_client.wire.errors import BrokerError

_paths: set[tuple[int, str]] = set()  # (pid, path) of the brokers that serve in this process
_threads: dict[tuple[int, int], str] = {}
_alone: set[int] = set()  # processes that only run a broker
_not_started: WeakValueDictionary[str, object] = WeakValueDictionary()  # brokers by path


def be_alone() -> None:
    """Declare that this process only runs a broker from now on."""
    _alone.add(os.getpid())


def announce(path: Path, broker: object) -> None:
    """Declare that this program has a broker for this address, which it has not started yet."""
    _not_started[os.path.realpath(path)] = broker


def start(path: Path) -> None:
    """Declare that the broker for this address is started."""
    _not_started.pop(os.path.realpath(path), None)


def is_not_started(path: Path) -> bool:
    """Whether this program has a broker for this address, but has not started it."""
    return bool(_not_started) and os.path.realpath(path) in _not_started


def serve(path: Path) -> None:
    """Declare that a broker in this process serves at this address."""
    _paths.add((os.getpid(), os.path.realpath(path)))


def end(path: Path) -> None:
    _paths.discard((os.getpid(), os.path.realpath(path)))


def enter(doing: str) -> None:
    """Declare that models run on this thread from now on."""
    _threads[os.getpid(), threading.get_ident()] = doing


def leave() -> None:
    _threads.pop((os.getpid(), threading.get_ident()), None)


def is_at(path: Path) -> bool:
    """Whether a broker in this process serves at this address, by whatever name."""
    return bool(_paths) and (os.getpid(), os.path.realpath(path)) in _paths


def check(path: Path) -> None:
    """Raises BrokerError on a thread that runs models for the broker at this address."""
    if is_at(path):
        check_thread(path)


def check_thread(path: Path) -> None:
    """Like `check`, for an address at which a broker in this process is known to serve."""
    pid = os.getpid()
    doing = _threads.get((pid, threading.get_ident()), "")
    if doing or pid in _alone:
        where = f"whose thread {doing}" if doing else "in whose process it runs"
        raise BrokerError(
            f"a model cannot call the broker that runs it (at {path}), {where}: the call would wait for itself. Have "
            "the worker call one model after the other, or put both into one function"
        )
