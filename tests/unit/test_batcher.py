"""Which waiting requests run together."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.batcher import Batcher

LIMITS = {"a": 4, "b": 8, "c": 1}


class Request(NamedTuple):
    number: int
    group: str | None
    rows: int


class AnyOrderOfWork(RuleBasedStateMachine):
    """Requests come and batches go in any order; beside the batcher, a plain list of what waits in each group."""

    def __init__(self) -> None:
        super().__init__()
        self.batcher: Batcher[Request] = Batcher()
        self.waiting: dict[object, deque[Request]] = {}
        self.passed_over: dict[object, set[object]] = {}
        self.count = 0

    @rule(group=st.sampled_from([*LIMITS, None]), rows=st.integers(0, 10))
    def add(self, group: str | None, rows: int) -> None:
        self.count += 1
        request = Request(self.count, group, rows)
        queue = self.waiting.setdefault(self.key(request), deque())
        if not queue:
            self.passed_over[self.key(request)] = set()
        queue.append(request)
        self.batcher.add(request, group, rows, LIMITS.get(group or "", 100))

    @staticmethod
    def key(request: Request) -> object:
        return request.group or request.number

    @precondition(lambda self: self.waiting)
    @rule()
    def next_batch(self) -> None:
        batch = self.batcher.next_batch()
        group = self.key(batch[0])
        queue = self.waiting[group]
        # Never lost, duplicated or reordered: a batch is the front of what waits in one group.
        assert batch == [queue.popleft() for _ in batch]
        rows = sum(request.rows for request in batch)
        limit = LIMITS.get(batch[0].group or "", 100)
        assert rows <= limit or len(batch) == 1
        # Nor smaller than it need be.
        assert batch[0].group is None or not queue or rows + queue[0].rows > limit
        # Each of the other groups was passed over by this one for the first time.
        for other, passed in self.passed_over.items():
            if other != group:
                assert group not in passed
                passed.add(group)
        self.passed_over[group] = set()
        if not queue:
            del self.waiting[group], self.passed_over[group]

    @invariant()
    def counts_what_waits(self) -> None:
        assert len(self.batcher) == sum(map(len, self.waiting.values()))
        assert bool(self.batcher) == bool(self.waiting)

    def teardown(self) -> None:
        while self.waiting:
            self.next_batch()
        assert not self.batcher


class TestAnyOrderOfWork(AnyOrderOfWork.TestCase):  # type: ignore[name-defined, misc]
    """Nothing is lost, duplicated or reordered within a group, no batch is above its limit or needlessly small, and a
    group is passed over by another at most once before its turn, whatever comes in whatever order."""


@pytest.fixture
def batcher() -> Batcher[str]:
    return Batcher()


def take_all(batcher: Batcher[str]) -> list[str]:
    """The batches of everything that waits, each as one word."""
    batches = []
    while batcher:
        batches.append("".join(batcher.next_batch()))
    return batches


def test_what_waits_forms_one_batch(batcher: Batcher[str]):
    """Requests of one group run together, in the order they came."""
    for item in "abcd":
        batcher.add(item, "group", 2, 8)
    assert take_all(batcher) == ["abcd"]


def test_a_batch_is_filled_up_to_the_limit(batcher: Batcher[str]):
    """A batch ends before the request that would take it above the limit; that one begins the next."""
    for item, rows in zip("abcd", (2, 2, 1, 4)):
        batcher.add(item, "group", rows, 5)
    assert take_all(batcher) == ["abc", "d"]


def test_nobody_overtakes_to_fill_a_batch(batcher: Batcher[str]):
    """A small request behind one that does not fit waits with it."""
    for item, rows in zip("abc", (3, 3, 1)):
        batcher.add(item, "group", rows, 4)
    assert take_all(batcher) == ["a", "bc"]


def test_a_request_above_the_limit_runs_by_itself(batcher: Batcher[str]):
    """A request of more rows than the limit is not refused and not joined, not even by one without rows."""
    for item, rows in zip("aXbY", (1, 9, 1, 9)):
        batcher.add(item, "group", rows, 4)
    batcher.add("0", "group", 0, 4)
    assert take_all(batcher) == ["a", "X", "b", "Y", "0"]


def test_without_a_group_nobody_joins(batcher: Batcher[str]):
    """Requests whose group is None run one by one, however small they are."""
    for item in "abc":
        batcher.add(item, None, 1, 100)
    assert take_all(batcher) == ["a", "b", "c"]


def test_groups_take_turns(batcher: Batcher[str]):
    """A group with a long queue lets every other have a batch before its next one."""
    for item in "aaaa":
        batcher.add(item, "busy", 1, 2)
    batcher.add("b", "other", 1, 2)
    batcher.add("c", None, 1, 2)
    assert take_all(batcher) == ["aa", "b", "c", "aa"]


def test_a_group_that_keeps_coming_does_not_hold_its_turn(batcher: Batcher[str]):
    """A group that is refilled after each of its batches goes to the end of the line each time."""
    batcher.add("a", "busy", 1, 1)
    batcher.add("b", "other", 1, 1)
    batcher.add("a", "busy", 1, 1)
    assert batcher.next_batch() == ["a"]
    batcher.add("a", "busy", 1, 1)
    assert take_all(batcher) == ["b", "a", "a"]


def test_there_is_no_empty_batch(batcher: Batcher[str]):
    """Asking where nothing waits is an error of the caller."""
    with pytest.raises(IndexError, match="nothing waits"):
        batcher.next_batch()
