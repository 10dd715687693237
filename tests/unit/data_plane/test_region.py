"""What a region remembers is bounded, because workers choose how many different shapes they send."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from broker.data_plane.prepared import PreparedStringRequest
from broker.data_plane.region import InputRegion, OutputRegion

MOST = 64


def test_remembered_requests_are_bounded() -> None:
    """Those of strings and the others together. When it is full, a region starts over with the newest."""
    region = InputRegion(memoryview(bytearray(8)))
    prepared: Any = SimpleNamespace()
    strings: Any = PreparedStringRequest.__new__(PreparedStringRequest)
    for number in range(MOST):
        region.remember((number, b""), strings if number % 2 else prepared)
    assert set(region.prepared_requests) | set(region.string_requests) == {
        (number, b"") for number in range(MOST)
    }
    assert all(number % 2 for number, _ in region.string_requests)
    region.remember((MOST, b""), prepared)
    assert (list(region.prepared_requests), list(region.string_requests)) == ([(MOST, b"")], [])


def test_remembered_places_are_bounded() -> None:
    """The same for the shapes of answers."""
    region = OutputRegion(1, memoryview(bytearray(64)))
    places: Any = (None, ())
    for number in range(MOST):
        region.remember((1, (number,)), places)
    assert len(region.places) == MOST
    region.remember((2, (1,)), places)
    assert list(region.places) == [(2, (1,))]
