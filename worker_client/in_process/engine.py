"""What answers the calls of a client without a broker, and how it is made: once for all connections that want it."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Protocol

from worker_client.interpreter import fork
from worker_client.interpreter.threads import Mutex
from worker_client.system.clock import monotonic_ns
from worker_client.wire.address import INLINE
from worker_client.wire.errors import BrokerUnavailable


class Engine(Protocol):
    """Models that run on whichever thread calls. A number stands for a signature, as in a broker."""

    survives_fork: bool
    """Whether a child of the process that made it may use it. TensorFlow does not let it."""

    def describe(self) -> dict[str, Any]:
        """The models as a broker reports them."""
        ...

    def run(self, number: int, feeds: Sequence[Any], deadline_ns: int) -> Sequence[Any]:
        """The outputs of one request, arrays or Strings; its inputs are arrays and StringViews. Raises BrokerError."""
        ...

    def ad_hoc(self, model: str, feeds: Sequence[str], fetches: Sequence[str]) -> dict[str, Any]:
        """A broker's reply to a session that names tensors. Raises BrokerError."""
        ...


class Source:
    """An engine that is made when it is first needed. Any thread."""

    def __init__(self, path: str, make: Callable[[], Engine]) -> None:
        self.path = path
        self.made_ns = 0
        self._make = make
        self._engine: Engine | None = None
        self._turns: dict[int, threading.Lock] = {}
        self._lock = Mutex()
        self._process = fork.here()
        fork.register(self, Source.after_fork_in_child)

    def engine(self) -> Engine:
        """Raises BrokerUnavailable in a child of the process that has made it, if it cannot be used there."""
        with self._lock:
            if self._engine is None:
                self._engine = self._make()
                self.made_ns = monotonic_ns()
                self._process = fork.here()
            elif not (self._engine.survives_fork or self._process.word[0]):
                raise BrokerUnavailable(
                    f"the models of {self.path} were loaded by the process that this one was forked from, and "
                    "TensorFlow does not survive fork: make the first call after the fork, or use a broker"
                )
            return self._engine

    def turn(self, number: int) -> threading.Lock:
        """To be held over a run of this signature: one at a time, whichever client it is for."""
        return self._turns.setdefault(number, threading.Lock())

    def after_fork_in_child(self) -> None:
        """Others may have held the locks."""
        self._turns, self._lock = {}, Mutex()


_numbers = itertools.count(1)
_sources: weakref.WeakValueDictionary[Hashable, Source] = weakref.WeakValueDictionary()


def shared(key: Hashable, path: str, make: Callable[[], Engine]) -> Source:
    """The source of this process for what `key` says, for as long as a connection keeps it."""
    source = _sources.get(key)
    return source if source is not None else _sources.setdefault(key, Source(path, make))


def registered(models: Iterable[str], make: Callable[[], Engine]) -> Source:
    """A source of objects, which no text names: its path is an address in this process, while somebody keeps it."""
    path = f"{INLINE}{','.join(models)}#{next(_numbers)}"
    source = _sources[path] = Source(path, make)
    return source


def known(path: str) -> Source | None:
    """What is registered under this address."""
    return _sources.get(path)
