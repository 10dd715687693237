"""The errors a caller can meet, and how each comes through a slot's status word."""

from __future__ import annotations

import pytest

from worker_client.wire import errors
from worker_client.wire.control import ProtocolError
from worker_client.wire.errors import (
    STATUS_OK,
    BrokerError,
    BrokerUnavailable,
    ConnectionClosed,
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    ModelNotFound,
    Overloaded,
    StaleSignature,
    from_status,
    status_of,
)

KINDS = (
    BrokerError,
    BrokerUnavailable,
    DeadlineExceeded,
    Overloaded,
    InvalidInput,
    ModelNotFound,
    ModelFailed,
    StaleSignature,
    ConnectionClosed,
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_a_broker_error(kind: type[BrokerError]):
    """One `except BrokerError` catches everything this library raises for a call."""
    assert issubclass(kind, BrokerError)


def test_the_list_is_complete():
    """No error class of the library is left out of the wire's codes."""
    defined = {value for value in vars(errors).values() if isinstance(value, type)}
    assert defined == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [(DeadlineExceeded, TimeoutError), (InvalidInput, ValueError), (ModelNotFound, LookupError)],
)
def test_errors_are_what_python_calls_them(kind: type[BrokerError], builtin: type[Exception]):
    """Code that knows only Python's own errors catches ours."""
    assert issubclass(kind, builtin)


@pytest.mark.parametrize("kind", KINDS)
def test_a_status_comes_back_as_the_same_error(kind: type[BrokerError]):
    """Class and message of an error are the same on both sides of the wire."""
    error = from_status(status_of(kind("what happened")), "what happened")
    assert type(error) is kind
    assert str(error) == "what happened"


def test_statuses_are_distinct():
    """Every error has a status of its own, none is STATUS_OK, and none is 0, which fresh memory holds."""
    statuses = [status_of(kind("")) for kind in KINDS]
    assert len(set(statuses)) == len(KINDS)
    assert not {0, STATUS_OK} & set(statuses)
    assert STATUS_OK != 0


def test_statuses_are_never_renumbered():
    """The codes of earlier protocols are what they were."""
    assert [status_of(kind("")) for kind in KINDS] == [2, 3, 4, 5, 6, 7, 8, 9, 10]


def test_a_subclass_crosses_as_the_class_it_extends():
    """An error class of one side only arrives as its nearest ancestor that both know."""

    class Finer(Overloaded):
        pass

    assert type(from_status(status_of(Finer("")), "")) is Overloaded
    assert type(from_status(status_of(ProtocolError("")), "")) is BrokerError


@pytest.mark.parametrize("status", [0, 99, 2**64 - 1])
def test_an_unknown_status_is_still_an_error(status: int):
    """A status that a newer broker may send raises BrokerError with its message rather than being lost."""
    error = from_status(status, "what happened")
    assert type(error) is BrokerError
    assert str(error) == "what happened"
