"""Requests that the intake has just taken run at once, without the queue, if they make up one batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from broker.data_plane.intake import _is_one_batch

LIGHT = {"light": True, "delay": None, "divisible": True, "batch_limit": 4}


def one_batch(rows: list[int], groups: list[str | None], **changes: object) -> bool:
    """Whether requests of so many rows and these groups, of one signature, are one batch."""
    serving = SimpleNamespace(**{**LIGHT, **changes})
    taken: Any = [
        SimpleNamespace(prepared=SimpleNamespace(served=serving, rows=count, group=group))
        for count, group in zip(rows, groups, strict=True)
    ]
    return _is_one_batch(taken)


def test_requests_of_one_group_are_one_batch() -> None:
    """Up to the largest batch of their signature."""
    assert one_batch([1, 3], ["a", "a"])
    assert not one_batch([2, 3], ["a", "a"])
    assert not one_batch([1, 1], ["a", "b"])


def test_dependent_rows_are_never_joined() -> None:
    """Not even if the requests have the group that they had before their rows were found to depend on each other."""
    assert not one_batch([1, 1], ["a", "a"], divisible=False)
    assert not one_batch([1, 1], [None, None])


def test_a_single_request_is_a_batch() -> None:
    """Unless it must be split."""
    assert one_batch([4], ["a"])
    assert not one_batch([5], ["a"])
    assert one_batch([5], [None])
    assert one_batch([5], ["a"], divisible=False)


@pytest.mark.parametrize("change", [{"light": False}, {"delay": object()}], ids=["heavy", "delayed"])
def test_other_threads_or_a_delay_need_the_queue(change: dict[str, object]) -> None:
    """Such requests do not run on this thread now."""
    assert not one_batch([1], ["a"], **change)
