"""Which waiting requests run together, and whose turn it is."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.scheduling.batcher import BULK_EVERY, Batcher
from broker.scheduling.request import BULK, INTERACTIVE
from tests.unit.scheduling.requests import Request, names

LIMITS = {"a": 4, "b": 8, "c": 1}
WORKERS = range(4)


class AnyOrderOfWork(RuleBasedStateMachine):
    """Requests come and batches go in any order; beside the batcher, a plain list of what waits in each lane."""

    def __init__(self) -> None:
        super().__init__()
        self.batcher: Batcher[Request] = Batcher()
        self.lanes: dict[object, deque[Request]] = {}
        self.passed_over: dict[int, int] = {}  # batches since a worker began to wait or had one of its own
        self.bulk_passed_over = 0
        self.count = 0

    @rule(
        worker=st.sampled_from(WORKERS),
        group=st.sampled_from([*LIMITS, None]),
        rows=st.integers(0, 10),
        level=st.sampled_from([INTERACTIVE, BULK]),
    )
    def add(self, worker: int, group: str | None, rows: int, level: int) -> None:
        self.count += 1
        limit = LIMITS.get(group or "", 100)
        request = Request(str(self.count), worker, group, rows, limit, level)
        if not any(lane for (other, *_), lane in self.lanes.items() if other == worker):
            self.passed_over[worker] = 0
        self.lanes.setdefault(self.lane(request), deque()).append(request)
        self.batcher.add(request)

    @staticmethod
    def lane(request: Request) -> tuple[object, ...]:
        return request.worker, request.level, request.group or request.name

    def waiting(self, level: int) -> set[object]:
        return {worker for (worker, of, _), lane in self.lanes.items() if lane and of == level}

    @rule(group=st.sampled_from(list(LIMITS)))
    def remove(self, group: str) -> None:
        removed = self.batcher.remove(lambda request: request.group == group)
        for request in removed:
            assert self.lanes[self.lane(request)].popleft() is request
        assert not any(lane for (_, _, of), lane in self.lanes.items() if of == group)
        for worker in set(WORKERS) - self.waiting(INTERACTIVE):  # it has left the turns that are counted
            self.passed_over[worker] = 0

    @precondition(lambda self: any(self.lanes.values()))
    @rule()
    def next_batch(self) -> None:
        interactive, bulk = self.waiting(INTERACTIVE), self.waiting(BULK)
        batch = self.batcher.next_batch(0)
        for request in batch:  # never lost, duplicated, or reordered within a lane
            assert self.lanes[self.lane(request)].popleft() is request
        first = batch[0]
        assert {request.group for request in batch} == {first.group}
        assert first.group is not None or len(batch) == 1
        rows = sum(request.rows for request in batch)
        assert rows <= first.batch_limit or len(batch) == 1
        if first.group is not None and rows < first.batch_limit:  # nor smaller than it need be
            for (_, _, group), lane in self.lanes.items():
                assert group != first.group or not lane or rows + lane[0].rows > first.batch_limit
        self.check_turns(batch, interactive, bulk)
        self.lanes = {key: lane for key, lane in self.lanes.items() if lane}

    def check_turns(self, batch: list[Request], interactive: set[object], bulk: set[object]) -> None:
        owner = batch[0]
        served = any(request.level == BULK for request in batch)
        self.bulk_passed_over = self.bulk_passed_over + 1 if bulk and not served else 0
        assert self.bulk_passed_over < BULK_EVERY
        if owner.level == INTERACTIVE:
            for worker in interactive - {request.worker for request in batch}:
                self.passed_over[worker] = self.passed_over.get(worker, 0) + 1
                assert self.passed_over[worker] < len(WORKERS)
        for request in batch:
            self.passed_over[request.worker] = 0

    @invariant()
    def counts_what_waits(self) -> None:
        assert len(self.batcher) == sum(map(len, self.lanes.values()))
        assert bool(self.batcher) == any(self.lanes.values())

    def teardown(self) -> None:
        while any(self.lanes.values()):
            self.next_batch()
        assert not self.batcher
        assert self.batcher.next_batch(0) == []


class TestAnyOrderOfWork(AnyOrderOfWork.TestCase):  # type: ignore[name-defined, misc]
    """Nothing is lost, duplicated or reordered within a worker's group; no batch is above its limit or needlessly
    small; a worker is passed over by each other one at most once, and bulk work at most BULK_EVERY - 1 times."""


@pytest.fixture
def batcher() -> Batcher[Request]:
    return Batcher()


def take_all(batcher: Batcher[Request]) -> list[str]:
    """The batches of everything that waits, each as its requests' names."""
    batches = []
    while batcher:
        batches.append(names(batcher.next_batch(0)))
    return batches


def test_what_waits_forms_one_batch(batcher: Batcher[Request]):
    """Requests of one group run together, in the order they came."""
    for name in "abcd":
        batcher.add(Request(name, rows=2))
    assert take_all(batcher) == ["a b c d"]


def test_a_batch_is_filled_up_to_the_limit(batcher: Batcher[Request]):
    """A batch ends before the request that would take it above the limit; that one begins the next."""
    for name, rows in zip("abcd", (2, 2, 1, 4)):
        batcher.add(Request(name, rows=rows, batch_limit=5))
    assert take_all(batcher) == ["a b c", "d"]


def test_a_request_never_overtakes_its_own_worker(batcher: Batcher[Request]):
    """A small request behind one that does not fit waits with it; another worker's takes the room."""
    for name, rows in zip("abc", (3, 3, 1)):
        batcher.add(Request(name, "one", rows=rows, batch_limit=4))
    batcher.add(Request("x", "other", batch_limit=4))
    assert take_all(batcher) == ["a x", "b c"]


def test_a_request_above_the_limit_runs_by_itself(batcher: Batcher[Request]):
    """A request of more rows than the limit is not refused and not joined, not even by one without rows."""
    for name, rows in zip("aXbY0", (1, 9, 1, 9, 0)):
        batcher.add(Request(name, rows=rows, batch_limit=4))
    assert take_all(batcher) == ["a", "X", "b", "Y", "0"]


def test_without_a_group_nobody_joins(batcher: Batcher[Request]):
    """Requests whose group is None run one by one, in order, however small they are."""
    for name in "abc":
        batcher.add(Request(name, group=None))
    assert take_all(batcher) == ["a", "b", "c"]


def test_one_request_waits_for_one_batch_of_a_queue_of_64(batcher: Batcher[Request]):
    """A worker with 64 in flight and one with 1: the one is in the next batch that is formed."""
    for number in range(64):
        batcher.add(Request(str(number), "busy", batch_limit=4))
    assert names(batcher.next_batch(0)) == "0 1 2 3"
    batcher.add(Request("single", "other", batch_limit=4))
    assert "single" in names(batcher.next_batch(0))


def test_many_groups_of_one_worker_are_one_turn(batcher: Batcher[Request]):
    """Nor does a worker get more than its turn by requests that cannot be joined."""
    for number in range(64):
        batcher.add(Request(str(number), "busy", group=f"shape {number}"))
    batcher.add(Request("single", "other", group="mine"))
    assert [names(batcher.next_batch(0)) for _ in range(3)] == ["0", "single", "1"]


def test_room_is_shared_out_in_turns(batcher: Batcher[Request]):
    """Each worker gets one place in a batch before any gets a second one."""
    for worker in "abc":
        for number in range(3):
            batcher.add(Request(f"{worker}{number}", worker, batch_limit=4))
    assert take_all(batcher) == ["a0 b0 c0 a1", "b1 c1 a2 b2", "c2"]


def test_more_workers_than_room(batcher: Batcher[Request]):
    """Those who found no room are first in the next batch."""
    for worker in "abcde":
        for number in range(2):
            batcher.add(Request(f"{worker}{number}", worker, batch_limit=2))
    assert take_all(batcher) == ["a0 b0", "c0 d0", "e0 a1", "b1 c1", "d1 e1"]


def test_groups_of_a_worker_take_turns(batcher: Batcher[Request]):
    """A group with a long queue lets every other have a batch before its next one."""
    for number in range(4):
        batcher.add(Request(f"a{number}", group="busy", batch_limit=2))
    batcher.add(Request("b", group="other"))
    batcher.add(Request("c", group=None))
    assert take_all(batcher) == ["a0 a1", "b", "c", "a2 a3"]


def test_a_worker_that_keeps_coming_does_not_hold_its_turn(batcher: Batcher[Request]):
    """A worker that sends more after each of its batches goes to the end of the line each time."""
    batcher.add(Request("a", "busy", group="a"))
    batcher.add(Request("b", "other", group="b"))
    assert names(batcher.next_batch(0)) == "a"
    batcher.add(Request("a", "busy", group="a"))
    assert take_all(batcher) == ["b", "a"]


def test_interactive_goes_first(batcher: Batcher[Request]):
    """Bulk requests run after what is interactive, in whatever order they came."""
    batcher.add(Request("bulk", "a", group="x", level=BULK))
    batcher.add(Request("i", "b", group="y"))
    assert take_all(batcher) == ["i", "bulk"]


def test_bulk_fills_the_room_that_is_left(batcher: Batcher[Request]):
    """Bulk requests of the same group ride along; they take no interactive request's place."""
    for number in range(4):
        batcher.add(Request(f"bulk{number}", "a", level=BULK, batch_limit=4))
    for number in range(3):
        batcher.add(Request(f"i{number}", "b", batch_limit=4))
    assert take_all(batcher) == ["i0 i1 i2 bulk0", "bulk1 bulk2 bulk3"]


def test_bulk_does_not_starve(batcher: Batcher[Request]):
    """If interactive requests never stop, one batch in BULK_EVERY is bulk."""
    batcher.add(Request("bulk", "a", group="x", level=BULK))
    got = []
    while "bulk" not in got:
        batcher.add(Request("i", "b", group="y"))
        got.append(names(batcher.next_batch(0)))
    assert got == ["i"] * (BULK_EVERY - 1) + ["bulk"]


class Until:
    """A delay that holds until a time."""

    def __init__(self, until_ns: int) -> None:
        self.until_ns = until_ns

    def hold_until(self, waiting: object, rows: int, now_ns: int) -> int:
        return self.until_ns


def test_a_group_is_held_for_company(batcher: Batcher[Request]):
    """A held group runs when its delay is over, or when it is full; groups without a delay run before it."""
    delay = Until(50)
    batcher.add(Request("a", delay=delay, batch_limit=2))  # type: ignore[arg-type]
    assert batcher.next_batch(40) == []
    assert batcher.hold_until(40) == 50
    batcher.add(Request("b", "other", group="at once"))
    assert names(batcher.next_batch(40)) == "b"
    assert names(batcher.next_batch(50)) == "a"
    for name in "cd":
        batcher.add(Request(name, delay=delay, batch_limit=2))  # type: ignore[arg-type]
    assert names(batcher.next_batch(40)) == "c d"
