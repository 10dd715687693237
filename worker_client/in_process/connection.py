"""In place of a connection to a broker: models of an engine in this process. Nothing is loaded before the first call.

It offers what `worker_client.connection.Connection` offers to clients, models and sessions, and imports nothing that
only Linux has.
"""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Callable
from typing import Any

from worker_client.attachment.metadata import SignatureInfo
from worker_client.attachment.model_cache import Models
from worker_client.in_process import inline
from worker_client.in_process.channel import InProcessChannel
from worker_client.in_process.engine import Engine, Source
from worker_client.interpreter import fork
from worker_client.interpreter.threads import Mutex
from worker_client.system.clock import monotonic_ns
from worker_client.wire.errors import BrokerError, BrokerUnavailable, DeadlineExceeded
from worker_client.wire.layout import NO_DEADLINE
from worker_client.wire.signature import Signature

_of_copies: weakref.WeakValueDictionary[str, InProcessConnection] = weakref.WeakValueDictionary()
_kept: dict[str, InProcessConnection] = {}  # those that were unpickled in another process
_numbers = itertools.count(1)


class InProcessConnection:
    """Thread-safe; a copy is the same object. In a forked child it begins afresh."""

    def __init__(self, source: Source, recipe: tuple[Callable[..., Source], Any], token: str = "") -> None:
        """`recipe` makes the source again, in a process that unpickles this."""
        self.path = source.path
        self.closings = 0
        self._source = source
        self._recipe = recipe
        self._token = token or f"{os.getpid()}.{next(_numbers)}"
        self._channel: InProcessChannel | None = None
        self._lock = Mutex()
        _of_copies[self._token] = self
        fork.register(self, InProcessConnection.after_fork_in_child)

    def __copy__(self) -> InProcessConnection:
        return self

    def __deepcopy__(self, memo: object) -> InProcessConnection:
        return self

    def __reduce__(self) -> tuple[Callable[..., InProcessConnection], tuple[Any, ...]]:
        return _unpickled, (self._token, *self._recipe)

    def __repr__(self) -> str:
        return f"<Connection {self.path} {self._channel or 'not attached'}>"

    def engine(self) -> Engine:
        """What answers its calls."""
        return self._source.engine()

    def channel(
        self, deadline_ns: int = NO_DEADLINE, patient: bool = True, closings: int | None = None
    ) -> InProcessChannel:
        """This process's channel. Loads the models, however long that takes. Raises BrokerUnavailable."""
        channel = self._channel
        if channel is not None and channel.open:
            return channel
        fork.here()  # begins afresh in a child
        if closings not in (None, self.closings):
            raise BrokerUnavailable(
                f"the client was closed while the call was under way (broker at {self.path})"
            )
        with self._lock:
            if self._channel is None or not self._channel.open:
                self._channel = InProcessChannel(self.path, self._source.engine(), self._source.turn)
            return self._channel

    def models(self, deadline_ns: int = NO_DEADLINE, patient: bool = True) -> Models:
        """Those of the engine."""
        channel = self.channel(deadline_ns, patient)
        if channel.model_cache.stale:
            channel.ask_for_models()
        return channel.model_cache.models

    def doubt_models(self) -> None:
        """Make the next call of `models` ask the engine."""
        if self._channel is not None:
            self._channel.model_cache.stale = True

    def ad_hoc(
        self, model: str, feeds: tuple[str, ...], fetches: tuple[str, ...], deadline_ns: int
    ) -> SignatureInfo:
        """These tensors of the model's graph as a signature. Raises InvalidInput, ModelNotFound."""
        reply = self._source.engine().ad_hoc(model, feeds, fetches)
        return SignatureInfo(
            reply["id"], Signature.from_message(reply), reply["stateful"], reply["max_run_seconds"]
        )

    def run_again(self, call: Any, lost: BrokerError) -> None:
        """There is no other broker that a call could be run on."""
        call.end(None, lost)

    def missed(self, deadline_ns: int, patient: bool = True) -> BrokerError:
        """The error of a call that timed out while another one had the models loaded."""
        return DeadlineExceeded(
            f"the call's timeout passed while another call was loading the models of {self.path}"
        )

    def spent_ns(self, since_ns: int) -> int:
        """How much of its timeout a call has spent that began then. Loading does not count, unlike in a broker, which
        has loaded its models before anybody calls."""
        return max(0, monotonic_ns() - max(since_ns, self._source.made_ns))

    def close(self) -> None:
        """Close the channel. Calls under way get BrokerUnavailable; a later call opens another."""
        with self._lock:
            self.closings += 1
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def after_fork_in_child(self) -> None:
        """Threads, locks and calls are the parent's."""
        self._lock = Mutex()
        self._channel = None

    def __del__(self) -> None:
        channel = self.__dict__.get("_channel")
        if channel is not None and channel.ours:
            channel.close(join=False)


def connection_to(text: str) -> Any:
    """To the models of an address that begins with "inline:". It stands in for a Connection, which is Linux's."""
    return InProcessConnection(inline.of_address(text), (inline.of_address, text))


def _unpickled(token: str, make: Callable[[Any], Source], argument: Any) -> InProcessConnection:
    """The same one in the process that pickled it, and one for all copies in another."""
    found = _of_copies.get(token)
    if found is None:
        found = _kept[token] = InProcessConnection(make(argument), (make, argument), token)
    return found
