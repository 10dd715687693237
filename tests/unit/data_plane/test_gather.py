"""Padding: how much of it a batch is worth, and that no answer contains it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from broker.data_plane.gather import cut, padding_pays


def prepared(*shape: int, ragged: bool = True) -> Any:
    """A request of one float32 tensor, whose axes behind the first are ragged."""
    axes = (tuple(range(1, len(shape))),) if ragged else ()
    return SimpleNamespace(feeds=(np.zeros(shape, np.float32),), rows=shape[0], ragged=axes)


def pays(*prepared_requests: Any) -> bool:
    return padding_pays(prepared_requests, sum(each.rows for each in prepared_requests))


def test_requests_of_a_like_length_are_joined():
    """Up to eight times their own bytes, requests are padded to the longest of them."""
    assert pays(prepared(1, 100_000), prepared(1, 200_000), prepared(1, 700_000))


def test_short_requests_are_joined_whatever_their_lengths():
    """A batch of a mebibyte costs next to nothing, padding or not."""
    assert pays(*[prepared(1, 5)] * 31, prepared(1, 512))


@pytest.mark.parametrize("long", [(1, 2_000_000), (0, 2_000_000), (1, 2_000, 1_000)])
def test_one_long_request_does_not_make_the_others_long(long: tuple[int, ...]):
    """Many short requests are not padded to the length of one that is thousands of times longer, rows or none."""
    short = (1, *[5] * (len(long) - 1))
    assert not pays(*[prepared(*short)] * 31, prepared(*long))


def test_a_long_request_by_itself_is_as_long_as_it_is():
    """Nothing is wasted on requests of one length, however long."""
    assert pays(prepared(1, 2_000_000), prepared(3, 2_000_000))


def test_what_is_not_ragged_is_always_joined():
    """Without ragged axes there is nothing to pad."""
    assert pays(prepared(1, 5, ragged=False), prepared(2, 5, ragged=False))


def cut_apart(own: list[list[int]], padded: list[int], output: tuple[int, ...], said: Any) -> list[Any]:
    """The shapes of the answers to requests of one row each, whose inputs had these own lengths. They ran together,
    padded to the given lengths, and gave an output of this shape; `said` is its shape in the signature."""
    served: Any = SimpleNamespace(
        entry=SimpleNamespace(signature=SimpleNamespace(outputs=[SimpleNamespace(shape=said)]))
    )
    prepared_requests: list[Any] = [
        SimpleNamespace(
            served=served, rows=1, feeds=[np.zeros((1, n)) for n in lengths], ragged=[(1,)] * len(padded)
        )
        for lengths in own
    ]
    feeds = [np.zeros((len(own), length)) for length in padded]
    return [answer[0].shape for answer in cut(prepared_requests, feeds, [np.zeros(output)])]


@pytest.mark.parametrize("said", [(None, None), None], ids=["free", "of unknown rank"])
def test_an_answer_is_as_long_as_its_own_request(said: Any):
    """A free axis of the padded length is cut to the length of the request."""
    assert cut_apart([[3], [5]], [5], (2, 5), said) == [(1, 3), (1, 5)]


def test_an_axis_that_only_looks_padded_is_not_cut():
    """One that the signature fixes, one of another length, and one that inputs of different lengths could explain."""
    assert cut_apart([[3], [5]], [5], (2, 5), (None, 5)) == [(1, 5), (1, 5)]
    assert cut_apart([[3], [5]], [5], (2, 4), (None, None)) == [(1, 4), (1, 4)]
    assert cut_apart([[3, 4], [5, 5]], [5, 5], (2, 5), (None, None)) == [(1, 5), (1, 5)]


def test_each_request_gets_its_own_rows_of_every_output():
    """In order, and without the padding after the last one."""
    prepared_requests: list[Any] = [SimpleNamespace(rows=rows, ragged=()) for rows in (2, 0, 1)]
    outputs = [np.arange(4), np.arange(4) * 10]
    assert [mine[0].tolist() for mine in cut(prepared_requests, [], outputs[:1])] == [[0, 1], [], [2]]
    assert [[each.tolist() for each in mine] for mine in cut(prepared_requests, [], outputs)] == [
        [[0, 1], [0, 10]],
        [[], []],
        [[2], [20]],
    ]
