"""Who is next where requests cannot be joined: new workers before old ones, and nobody starves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.scheduling.batcher import BULK_EVERY, Batcher
from broker.scheduling.queue import Queue
from broker.scheduling.request import BULK, INTERACTIVE
from tests.unit.scheduling.requests import Request, names


class Model:
    """A model that runs one batch after the other. While one runs, whoever was answered may send again."""

    def __init__(self, waiting: Batcher[Request] | Queue[Request] | None = None, group: str | None = None):
        self.waiting = Batcher() if waiting is None else waiting
        self.group = group
        self.running = ""

    def send(self, worker: str, level: int = INTERACTIVE) -> None:
        group = None if self.group is None else f"{self.group} of {worker}"
        self.waiting.add(Request(worker, worker, group, batch_limit=1, level=level))

    def next(self) -> str:
        """The worker whose request runs from now on."""
        self.running = names(self.waiting.next_batch(0))
        return self.running

    def order(self, runs: int, polite: str, greedy: str = "G") -> str:
        """Of a greedy worker with 8 requests at any time, and of those who send one when the last was answered."""
        for _ in range(8):
            self.send(greedy)
        told, idle = "", set(polite)
        for _ in range(runs):
            before = self.running
            told += self.next()
            # The answer to what ran before has reached its worker while this one runs.
            idle |= {before} & set(polite)
            for worker in sorted(idle):
                self.send(worker)
            idle.clear()
            if self.running == greedy:
                self.send(greedy)
        return told


def queue() -> Queue[Request]:
    return Queue(Request.split)


@pytest.mark.parametrize("group", [None, "shape"])
@pytest.mark.parametrize("waiting", [Batcher, queue])
def test_one_request_at_a_time_gets_half(waiting, group):
    """Beside a worker with 8 requests in its queue, one that waits for each answer has every other run."""
    assert Model(waiting(), group).order(20, "p") == "G" + "pG" * 9 + "p"


def test_two_of_them_get_a_third_each():
    """Each of them and the greedy one."""
    assert Model().order(21, "pq") == "G" + "pqG" * 6 + "pq"


def test_a_new_worker_waits_for_no_old_one():
    """Of three with long queues, none runs before the first request of a fourth."""
    model = Model()
    for worker in "abc" * 3:
        model.send(worker)
    assert model.next() + model.next() == "ab"
    model.send("n")
    assert [model.next() for _ in range(4)] == ["c", "n", "a", "b"]


def test_new_workers_without_end_do_not_starve_an_old_one():
    """One that sends whenever it has been answered is new again only behind those that waited."""
    model = Model()
    model.send("old")
    model.send("old")
    assert model.next() == "old"
    model.send("a")
    model.send("b")
    got = [model.next()]
    while "old" not in got:
        model.send(got[-1])
        got.append(model.next())
    assert got == ["a", "b", "old"]


def test_interactive_requests_go_before_a_new_bulk_worker():
    """A worker that is new with bulk requests only waits for BULK_EVERY - 1 batches of others, as before."""
    model = Model()
    model.send("i")
    model.send("n", BULK)
    got = []
    while "n" not in got:
        model.send("i")
        got.append(model.next())
    assert got == ["i"] * (BULK_EVERY - 1) + ["n"]


WORKERS = "abcde"


@given(st.lists(st.one_of(st.sampled_from(WORKERS), st.just("run")), max_size=120), st.booleans())
def test_nobody_is_passed_over_twice_by_the_same_worker(events, own_groups):
    """While a worker waits, every other has one turn at most, whatever comes and in whichever order."""
    model = Model(group="shape" if own_groups else None)
    queued = dict.fromkeys(WORKERS, 0)
    passed_by: dict[str, list[str]] = {worker: [] for worker in WORKERS}
    for event in [*events, *["run"] * len(events)]:
        if event != "run":
            if not queued[event]:
                passed_by[event] = []
            queued[event] += 1
            model.send(event)
            continue
        if not any(queued.values()):
            continue
        ran = model.next()
        queued[ran] -= 1
        passed_by[ran] = []
        for worker, others in passed_by.items():
            if worker != ran and queued[worker]:
                assert ran not in others
                others.append(ran)
    assert not any(queued.values())
    assert not model.waiting
