"""What both sides of a slot cache about its requests, so that each table is read only once."""

from __future__ import annotations

from tests.contract.recording import Desk

SHAPES = 200


def test_what_a_slot_remembers_is_bounded() -> None:
    """A worker that sends another shape each time gets right answers, and the memory of both sides stays bounded."""
    desk = Desk()
    for rows in range(1, SHAPES + 1):
        desk.submit(rows)
        desk.take()
        desk.complete(rows)
        (answer,) = desk.worker.result()
        assert answer.shape == (rows, 3)
        assert (answer == rows).all()
    known = desk.broker.input.prepared_requests, desk.worker.input._views, desk.worker.output.arrays
    known = *known, desk.broker.output.places
    assert max(map(len, known)) < SHAPES / 2


def test_what_a_slot_remembers_is_not_read_again() -> None:
    """The same table finds the same prepared request and the same arrays."""
    desk, prepared_requests, answers = Desk(), [], []
    for _ in range(3):
        desk.submit()
        desk.take()
        prepared_requests.append(desk.broker.prepared)
        desk.complete()
        answers.append(desk.worker.result()[0])
    assert prepared_requests[0] is prepared_requests[1] is prepared_requests[2]
    assert answers[0] is answers[1] is answers[2]
