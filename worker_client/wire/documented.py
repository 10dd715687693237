"""Internal error classes that callers can get: they are shown and pickled as the documented classes that they
extend."""

from __future__ import annotations

from typing import TypeVar

from worker_client.wire.errors import DOCUMENTED, BrokerError

E = TypeVar("E", bound=BrokerError)


def shown_as_documented(kind: type[E]) -> type[E]:
    """Make an error class appear as its documented base, such as `worker_client.BrokerUnavailable`, in tracebacks,
    error trackers and pickles."""
    public = next(filter(kind.__mro__.__contains__, DOCUMENTED))

    def reduce(error: BrokerError) -> tuple[type[BrokerError], tuple[object, ...]]:
        return public, error.args

    kind.__module__, kind.__name__, kind.__qualname__ = (
        public.__module__,
        public.__name__,
        public.__qualname__,
    )
    kind.__reduce__ = reduce  # type: ignore[assignment, method-assign]
    return kind
