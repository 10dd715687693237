"""Which errors a caller must expect, and when. Any other error is a fault.

| a call           | may end with                                    | if                                        |
|------------------|-------------------------------------------------|-------------------------------------------|
| any              | BrokerUnavailable                               | two brokers have ended since it began: a  |
|                  |                                                 | call is run again only once               |
| any              | BrokerUnavailable                               | its own process closed the client         |
| any              | BrokerUnavailable                               | the broker's socket was removed meanwhile |
| any              | BrokerUnavailable                               | a broker has ended that had to make its   |
|                  |                                                 | socket again: until its parent has seen   |
|                  |                                                 | the end, nobody listens                   |
| with a tiny time | DeadlineExceeded, Overloaded, BrokerUnavailable | always                                    |
"""

from __future__ import annotations

from worker_client import BrokerError, BrokerUnavailable, DeadlineExceeded, Overloaded

HURRIED = (DeadlineExceeded, Overloaded, BrokerUnavailable)


class Fault(AssertionError):
    """Something that must not happen has happened."""


def verdict(
    error: BrokerError, broker_ends: int, closings: int = 0, cleanings: int = 0, cleaned: bool = False
) -> str:
    """What to count this end of a patient call as, during which so many brokers ended, its client was closed so often,
    and the broker's socket removed; `cleaned`: it had been removed before, too. Raises Fault for one that must not be:
    its timeout is far longer than a restart takes."""
    if isinstance(error, BrokerUnavailable):
        if closings:
            return "closed meanwhile"
        if cleanings or (cleaned and broker_ends):
            return "met no socket"
        if broker_ends >= 2:
            return "met two ends"
    raise Fault(
        f"a patient call ended with {type(error).__name__} ({error}), though only {broker_ends} brokers ended "
        f"meanwhile, and its client was closed {closings} times"
    ) from error
