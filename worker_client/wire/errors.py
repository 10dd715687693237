"""All errors that a caller can get, and the status code of each on the wire."""

from __future__ import annotations


class BrokerError(Exception):
    """The base of all errors of this library."""


class BrokerUnavailable(BrokerError):
    """No broker answers at the address, or it went away while the call waited."""


class DeadlineExceeded(BrokerError, TimeoutError):
    """The call's timeout passed before its answer came."""


class Overloaded(BrokerError):
    """A limit is reached: slots, queue or memory budget. The message names the setting to raise."""


class InvalidInput(BrokerError, ValueError):
    """The caller's tensors do not fit the signature. Nothing was run."""


class ModelNotFound(BrokerError, LookupError):
    """The broker serves no such model, version or signature."""


class ModelFailed(BrokerError):
    """The model itself raised; the message is TensorFlow's (or the Python model's)."""


DOCUMENTED = (
    BrokerUnavailable,
    DeadlineExceeded,
    Overloaded,
    InvalidInput,
    ModelNotFound,
    ModelFailed,
    BrokerError,
)
for _kind in DOCUMENTED:
    _kind.__module__ = "worker_client"  # where callers find it, and what tracebacks and error trackers show
del _kind


class StaleSignature(BrokerError):
    """The signature number in the request is no longer valid: the client asks for the models. Callers never see this
    error."""


class ConnectionClosed(BrokerUnavailable):
    """The broker closed the connection, and the request was not run. Callers never see this error."""


# The status word of a slot's completion line. 0 is never written, so that fresh memory is not a status.
STATUS_OK = 1

_CODES: dict[int, type[BrokerError]] = {
    2: BrokerError,
    3: BrokerUnavailable,
    4: DeadlineExceeded,
    5: Overloaded,
    6: InvalidInput,
    7: ModelNotFound,
    8: ModelFailed,
    9: StaleSignature,
    10: ConnectionClosed,
}
_STATUS = {kind: code for code, kind in _CODES.items()}


def status_of(error: BrokerError) -> int:
    """The status code that stands for `error`'s class on the wire."""
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind]
    return _STATUS[BrokerError]


def from_status(status: int, message: str) -> BrokerError:
    """The error a worker raises for a completion with this status."""
    return _CODES.get(status, BrokerError)(message)
