"""Requests that no client would send, by the ten thousand, through the broker's own intake, channel and runner."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from broker.data_plane.slot import Slot as BrokerSlot
from tests.faults.fuzz.cases import TOP, Case, Cases
from tests.faults.fuzz.meddler import meddle, stores
from tests.faults.fuzz.target import SLOTS, Target, target
from tests.workers import worker
from worker_client.wire import tensors
from worker_client.wire.errors import STATUS_OK, BrokerError, InvalidInput, from_status
from worker_client.wire.layout import NO_DEADLINE, STATUS

MANY = 30_000
VERY_MANY = 1_000_000
HONEST_EVERY = 64


@pytest.fixture
def fuzzed() -> Iterator[Target]:
    with target() as made:
        yield made


def bombard(fuzzed: Target, draw: Callable[[], Case], count: int, refused: bool = False) -> None:
    """Submit so many drawn requests, and look at everything after each. `refused`: none of them may have run."""
    for number in range(count):
        index = number % SLOTS
        case = draw()
        fuzzed.write(index, case)
        fuzzed.submit(index)
        look_at_all(fuzzed, number, case)
        if refused and not isinstance(answer := answer_of(fuzzed, index), InvalidInput):
            raise AssertionError(f"{answer!r} in place of InvalidInput after case {number}: {case}")
    fuzzed.check_bounds()


def answer_of(fuzzed: Target, index: int) -> BrokerError | None:
    """The error that the hostile worker got; None for a result."""
    status = fuzzed.hostile.slots[index].words[STATUS]
    return None if status == STATUS_OK else from_status(status, "")


def look_at_all(fuzzed: Target, number: int, what: object) -> None:
    """Let the broker go on; then nothing is left undone or touched that should not be."""
    try:
        fuzzed.settle_all()
        fuzzed.check_idle()
        fuzzed.check_untouched()
        if number % HONEST_EVERY == 0:
            fuzzed.check_honest()
            fuzzed.forget_posts()
    except Exception as error:
        raise AssertionError(f"{error!r} after case {number}: {what}") from error


def test_valid_requests_are_run(fuzzed: Target, seed: int):
    """All valid cases are answered with a result, so the invalid cases below are close to valid ones."""
    cases = Cases(fuzzed.ids, seed)
    bombard(fuzzed, cases.valid, 300)
    for served in fuzzed.intake.served_signatures:
        counted = served and served.to_message(fuzzed.intake.failures)
        assert counted is None or (counted["requests"] > 0 and not counted["failures"])
    assert not fuzzed.violations


def test_requests_with_something_wrong(fuzzed: Target, seed: int):
    """A header or table with one to three errors costs its sender at most an error, and others nothing."""
    bombard(fuzzed, Cases(fuzzed.ids, seed).wrong, MANY // 2)


def test_requests_of_another_dtype_are_refused(fuzzed: Target, seed: int):
    """Inputs that the signature does not take never reach the model, even if they have the right length."""
    bombard(fuzzed, Cases(fuzzed.ids, seed).another_dtype, 300, refused=True)


def test_requests_of_random_bytes(fuzzed: Target, seed: int):
    """Random headers and tables cost their sender at most an error, and others nothing."""
    bombard(fuzzed, Cases(fuzzed.ids, seed).noise, MANY // 2)


def test_entries_posts_and_tails_that_do_not_fit(fuzzed: Target, seed: int):
    """Any entries, duplicates or invalid slots, with any tail and any number of posts, cost the sender at most its
    channel."""
    cases, rng = Cases(fuzzed.ids, seed), random.Random(seed)
    for number in range(MANY // 10):
        for index in range(SLOTS):
            fuzzed.write(index, cases.wrong() if rng.random() < 0.5 else cases.valid())
        slots = [
            rng.randrange(SLOTS) if rng.random() < 0.9 else cases.word() for _ in range(rng.randrange(5))
        ]
        honest_tail = (fuzzed.hostile.ring.head + len(slots)) & TOP
        tail = honest_tail if rng.random() < 0.6 else cases.word()
        fuzzed.submit_anyhow(slots, tail, rng.choice((0, 1, len(slots), len(slots), 7)))
        look_at_all(fuzzed, number, f"slots {slots}, tail {tail}")
    assert fuzzed.violations > 10


@pytest.mark.parametrize("heavy", [False, True], ids=["light", "heavy"])
def test_memory_that_changes_while_it_is_read(fuzzed: Target, seed: int, heavy: bool):
    """Another process may store what it likes in headers, tables, outputs and completions, at any moment: others'
    answers are right, and the broker sees each request through."""
    cases = Cases(fuzzed.ids, seed)
    if heavy:
        fuzzed.make_heavy()
    with worker(meddle, fuzzed, stores(fuzzed, cases, seed)):
        for number in range(MANY // 30 if heavy else MANY // 5):
            index = number % SLOTS
            fuzzed.write(index, cases.valid() if number % 2 else cases.wrong())
            fuzzed.submit(index)
            look_at_all(fuzzed, number, "with a meddler")
    assert not fuzzed.violations


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["wrong", "noise"])
def test_very_many_requests(fuzzed: Target, seed: int, kind: str):
    """The same a million times."""
    bombard(fuzzed, getattr(Cases(fuzzed.ids, seed), kind), VERY_MANY // 2)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("wide", (1 << 32, 0)),
        ("wide", (0, 1 << 38)),
        ("ragged", (0, 1 << 38)),
        ("any_rank", (1 << 38, 0)),
        ("any_rank", (0, 1 << 20, 1 << 20)),
    ],
)
def test_dimensions_that_cost_nothing(fuzzed: Target, model: str, shape: tuple[int, ...]):
    """A tensor without elements takes no memory of its worker, but its cost for the broker is bounded."""
    table = [1, 6 if model == "any_rank" else 11, len(shape), 64, *shape]
    fuzzed.write(0, Case([1, fuzzed.ids[model], 8 * len(table), NO_DEADLINE, 1, 0, 1, 2], table))
    fuzzed.submit(0)
    look_at_all(fuzzed, 0, shape)
    assert from_status(fuzzed.hostile.slots[0].words[STATUS], "").__class__ is InvalidInput


def test_rows_of_nothing_run_in_one_piece(fuzzed: Target):
    """A million of them cost their worker nothing, and the broker one run."""
    table = [1, 11, 2, 64, 1 << 20, 0]
    fuzzed.write(0, Case([1, fuzzed.ids["wide"], 8 * len(table), NO_DEADLINE, 1, 0, 1, 2], table))
    fuzzed.submit(0)
    look_at_all(fuzzed, 0, table)
    assert not fuzzed.hostile.slots[0].busy


def test_a_long_request_is_not_everybodys_length(fuzzed: Target):
    """Requests of variable length are not padded to the length of an empty request among them."""
    for index, shape in enumerate([(2, 3), (0, 1 << 20), (1, 5)]):
        table = [1, 11, 2, 64, *shape]
        fuzzed.write(index, Case([1, fuzzed.ids["ragged"], 8 * len(table), NO_DEADLINE, 1, 0, 1, 2], table))
    joined: list[int] = []
    gatherer = fuzzed.intake._runner._gatherer
    join = gatherer.join
    gatherer.join = lambda plans, size: joined.append(size) or join(plans, size)  # type: ignore[method-assign, func-returns-value]
    fuzzed.submit(0, 1, 2)
    look_at_all(fuzzed, 1, "a long one among short ones")
    assert [slot.words[STATUS] for slot in fuzzed.hostile.slots] == [STATUS_OK] * 3
    assert not joined


@pytest.mark.parametrize(("model", "shape"), [("wide", (0, 5000)), ("wide", (500, 0)), ("double", (0, 4))])
def test_empty_requests_are_none_the_worse(fuzzed: Target, model: str, shape: tuple[int, ...]):
    """Requests of no rows, and of rows without columns, are answered."""
    table = [1, 11, len(shape), 64, *shape]
    fuzzed.write(0, Case([1, fuzzed.ids[model], 8 * len(table), NO_DEADLINE, 1, 0, 1, 2], table))
    fuzzed.submit(0)
    look_at_all(fuzzed, 0, shape)
    assert fuzzed.hostile.slots[0].words[STATUS] == STATUS_OK


# -- that it would be found ----------------------------------------------------------------------------------------


def no_check(*_: object) -> None:
    """In place of a check."""


def any_serving(servings: list[Any]) -> list[Any]:
    """Signature ids are taken as they come."""

    class Unchecked(list[Any]):
        def __len__(self) -> int:
            return 1 << 70

    return Unchecked(servings)


def forget_bounds(fuzzed: Target, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tensors, "_check_bounds", no_check)


def forget_signature(fuzzed: Target, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("broker.data_plane.slot.check_against", no_check)


def forget_serving(fuzzed: Target, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fuzzed.intake, "served_signatures", any_serving(fuzzed.intake.served_signatures))


def write_next_door(fuzzed: Target, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fuzzed.hostile.slots[1], "output", fuzzed.honest.slots[1].output)


def answer_twice(fuzzed: Target, patch: pytest.MonkeyPatch) -> None:
    hand_back = BrokerSlot._hand_back

    def twice(slot: BrokerSlot) -> None:
        hand_back(slot)
        if slot.channel is fuzzed.honest:
            slot.completed.release()

    patch.setattr(BrokerSlot, "_hand_back", twice)


@pytest.mark.parametrize(
    "mistake",
    [forget_bounds, forget_serving, write_next_door, answer_twice],
    ids=lambda mistake: mistake.__name__,
)
def test_a_broker_that_forgets_a_check_is_found(
    fuzzed: Target, seed: int, monkeypatch: pytest.MonkeyPatch, mistake: Callable[..., None]
):
    """If a check is removed from the broker, a few thousand cases find that out."""
    mistake(fuzzed, monkeypatch)
    with pytest.raises(AssertionError, match="after case"):
        bombard(fuzzed, Cases(fuzzed.ids, seed).wrong, MANY)
    make_good(fuzzed, monkeypatch)


def test_a_broker_that_forgets_the_signature_is_found(
    fuzzed: Target, seed: int, monkeypatch: pytest.MonkeyPatch
):
    """Inputs that do not fit the signature are found when they reach the model, even if it answers them."""
    forget_signature(fuzzed, monkeypatch)
    with pytest.raises(AssertionError, match="in place of InvalidInput after case 0:"):
        bombard(fuzzed, Cases(fuzzed.ids, seed).another_dtype, MANY, refused=True)
    make_good(fuzzed, monkeypatch)


def make_good(fuzzed: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    fuzzed.complaints.texts.clear()
    fuzzed.settle_all()
