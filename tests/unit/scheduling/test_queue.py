"""The limit of a model's queue: which requests enter, which are held, and which enter next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.scheduling.queue import Queue
from tests.unit.scheduling.requests import Limits, Request, names


def test_what_finds_no_room_is_held_and_let_in_later():
    """A request is let in while fewer rows wait than the bound; the others follow in order as there is room."""
    queue: Queue[Request] = Queue(Request.split)
    limits = Limits(max_rows=2)
    requests = [Request(name, batch_limit=1, limits=limits) for name in "abcd"]
    for request in requests:
        queue.add(request)
    assert [request.held for request in requests] == [False, False, True, True]
    assert queue.waiting(limits) == (2, 2, 2)
    assert names(queue.next_batch(0)) == "a"
    assert [request.held for request in requests] == [False, False, False, True]
    assert [names(queue.next_batch(0)) for _ in range(3)] == ["b", "c", "d"]
    assert queue.waiting(limits) == (0, 0, 0)
    assert not queue


def test_a_request_larger_than_the_bound_is_let_in_alone():
    """Else it would never run."""
    queue: Queue[Request] = Queue(Request.split)
    large = Request("large", rows=100, batch_limit=100, limits=Limits(max_rows=10))
    queue.add(large)
    assert not large.held
    assert names(queue.next_batch(0)) == "large"


def test_one_model_s_bound_is_not_another_s():
    """A full queue of one model holds up no other model's requests."""
    queue: Queue[Request] = Queue(Request.split)
    full, empty = Limits(max_rows=1), Limits(max_rows=1)
    first, held = (Request(name, group="x", limits=full) for name in "ab")
    other = Request("c", group="y", limits=empty)
    for request in (first, held, other):
        queue.add(request)
    assert (first.held, held.held, other.held) == (False, True, False)


def test_bytes_are_bounded_too():
    """Whichever bound is reached first."""
    queue: Queue[Request] = Queue(Request.split)
    limits = Limits(max_bytes=10)
    first, second = (Request(name, nbytes=10, limits=limits) for name in "ab")
    queue.add(first)
    queue.add(second)
    assert second.held


def test_held_requests_are_let_in_by_turns():
    """A worker with a long line of held requests does not keep another's one out."""
    queue: Queue[Request] = Queue(Request.split)
    limits = Limits(max_rows=1)
    for number in range(5):
        queue.add(Request(f"a{number}", "a", batch_limit=1, limits=limits))
    queue.add(Request("b", "b", batch_limit=1, limits=limits))
    assert [names(queue.next_batch(0)) for _ in range(6)] == ["a0", "a1", "b", "a2", "a3", "a4"]


def test_parts_queue_in_place_of_their_whole():
    """They count as what they are part of, and leave one by one."""
    queue: Queue[Request] = Queue(Request.split)
    limits = Limits(max_rows=3)
    parts = [Request(name, rows=2, batch_limit=2, limits=limits) for name in "xy"]
    queue.add(Request("whole", rows=4, nbytes=2, batch_limit=2, limits=limits, parts=parts))
    assert queue.waiting(limits)[:2] == (4, 2)
    assert names(queue.next_batch(0)) == "x"
    assert queue.waiting(limits)[0] == 2
    assert names(queue.next_batch(0)) == "y"


def test_a_part_is_followed_by_the_next():
    """Of a request in many parts only the first are queued, and only they count: they keep nobody else out."""
    queue: Queue[Request] = Queue(Request.split)
    limits = Limits(max_rows=5)
    later = [Request(name, "a", rows=2, batch_limit=2, limits=limits) for name in "234"]
    parts = [Request(name, "a", rows=2, batch_limit=2, limits=limits, more=later) for name in "01"]
    queue.add(Request("whole", "a", rows=10, batch_limit=2, limits=limits, parts=parts))
    other = Request("b", "b", batch_limit=2, limits=limits)
    queue.add(other)
    assert not other.held
    assert queue.waiting(limits)[0] == 5
    assert names(queue.next_batch(0)) == "0"
    assert queue.waiting(limits)[0] == 5
    for part in (parts[1], *later):
        part.more = later
    assert [names(queue.next_batch(0)) for _ in range(5)] == ["b", "1", "2", "3", "4"]
    assert queue.waiting(limits) == (0, 0, 0)
    assert not queue


def test_a_request_in_one_piece_counts_as_one_batch():
    """The first dimension of a request that is not split may count anything: samples of sound, say."""
    queue: Queue[Request] = Queue(Request.split)
    limits = Limits(max_rows=10)
    long, other = (Request(name, rows=272_000, batch_limit=4, group=None, limits=limits) for name in "ab")
    queue.add(long)
    queue.add(other)
    assert not other.held
    assert queue.waiting(limits)[0] == 8
    assert [names(queue.next_batch(0)) for _ in range(2)] == ["a", "b"]
    assert queue.waiting(limits)[0] == 0


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.booleans()), max_size=60),
    st.integers(1, 6),
    st.integers(1, 4),
)
def test_nothing_is_lost_and_the_bound_holds(steps: list[tuple[int, int, bool]], max_rows: int, limit: int):
    """Whatever comes and goes: each request leaves once, and no more waits than the bound and one request."""
    queue: Queue[Request] = Queue(Request.split)
    limits = Limits(max_rows=max_rows)
    came: list[Request] = []
    went: list[Request] = []
    for worker, rows, take in steps:
        request = Request(str(len(came)), worker, rows=rows, batch_limit=limit, limits=limits)
        came.append(request)
        queue.add(request)
        if take:
            went += queue.next_batch(0)
        assert queue.waiting(limits)[0] < max_rows + 5
    while queue:
        went += queue.next_batch(0)
    assert sorted(map(id, went)) == sorted(map(id, came))
    assert not any(request.held for request in came)
    for worker in range(3):
        assert [r for r in went if r.worker == worker] == [r for r in came if r.worker == worker]


def test_what_is_removed_leaves_room_and_goes_on_in_another_queue():
    """A signature that has become heavy takes along what waits, in order, held or not, and the parts to come."""
    queue: Queue[Request] = Queue(Request.split)
    other: Queue[Request] = Queue(Request.split)
    limits = Limits(max_rows=3)
    later = [Request("p1", "b", "x", limits=limits)]
    parts = [Request("p0", "b", "x", limits=limits, more=later)]
    mine = [
        Request("a0", "a", "x", limits=limits),
        Request("whole", "b", "x", rows=2, limits=limits, parts=parts),
        Request("a1", "a", None, limits=limits),
        Request("a2", "a", "x", limits=limits),
    ]
    rest = [Request("b0", "b", "y", limits=limits), Request("b1", "b", "y", limits=limits)]
    for request in (*mine, *rest):
        queue.add(request)
    assert [request.name for request in (*mine, *rest) if request.held] == ["a2", "b0", "b1"]
    removed = queue.remove(limits, lambda request: request not in rest)
    assert sorted(names([request]) for request in removed) == ["a0", "a1", "a2", "p0"]
    assert [request.name for request in removed if request.worker == "a" and request.group] == ["a0", "a2"]
    assert not any(request.held for request in (*mine, *rest))
    assert queue.waiting(limits) == (2, 2, 0)
    assert names(queue.next_batch(0)) == "b0 b1"
    assert not queue
    assert queue.waiting(limits) == (0, 0, 0)
    for request in removed:
        other.add(request)
    ran = [names(batch) for batch in iter(lambda: other.next_batch(0), [])]
    assert sorted(" ".join(ran).split()) == ["a0", "a1", "a2", "p0", "p1"]
    assert other.waiting(limits) == (0, 0, 0)


def test_nothing_to_remove():
    queue: Queue[Request] = Queue(Request.split)
    assert queue.remove(Limits(), lambda request: True) == []
