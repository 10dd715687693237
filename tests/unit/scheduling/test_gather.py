"""Padding: how much of it a batch is worth."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from broker.scheduling.gather import padding_pays


def plan(*shape: int, ragged: bool = True) -> Any:
    """A request of one float32 tensor, whose axes behind the first are ragged."""
    axes = (tuple(range(1, len(shape))),) if ragged else ()
    return SimpleNamespace(feeds=(np.zeros(shape, np.float32),), rows=shape[0], ragged=axes)


def pays(*plans: Any) -> bool:
    return padding_pays(plans, sum(each.rows for each in plans))


def test_requests_of_a_like_length_are_joined():
    """Up to eight times their own bytes, requests are padded to the longest of them."""
    assert pays(plan(1, 100_000), plan(1, 200_000), plan(1, 700_000))


def test_short_requests_are_joined_whatever_their_lengths():
    """A batch of a mebibyte costs next to nothing, padding or not."""
    assert pays(*[plan(1, 5)] * 31, plan(1, 512))


@pytest.mark.parametrize("long", [(1, 2_000_000), (0, 2_000_000), (1, 2_000, 1_000)])
def test_one_long_request_does_not_make_the_others_long(long: tuple[int, ...]):
    """Many short requests are not padded to the length of one that is thousands of times longer, rows or none."""
    short = (1, *[5] * (len(long) - 1))
    assert not pays(*[plan(*short)] * 31, plan(*long))


def test_a_long_request_by_itself_is_as_long_as_it_is():
    """Nothing is wasted on requests of one length, however long."""
    assert pays(plan(1, 2_000_000), plan(3, 2_000_000))


def test_what_is_not_ragged_is_always_joined():
    """Without ragged axes there is nothing to pad."""
    assert pays(plan(1, 5, ragged=False), plan(2, 5, ragged=False))
