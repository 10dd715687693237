"""`map` and `map_unordered`, above a `submit` whose futures the test completes by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from worker_client.calls import mapping
from worker_client.wire.errors import InvalidInput, ModelFailed


class Calls:
    """Counts what is asked of it: `futures[i]` is the call of input i, `read` the inputs taken so far."""

    def __init__(self, answer: Callable[[Any], Any] | None = None) -> None:
        self.futures: dict[Any, Future[Any]] = {}
        self.read: list[Any] = []
        self._answer = answer

    def submit(self, inputs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.futures[inputs] = future
        if self._answer is not None:
            future.set_result(self._answer(inputs))
        return future

    def batches(self, inputs: Any) -> Iterator[Any]:
        for item in inputs:
            self.read.append(item)
            yield item

    @property
    def cancelled(self) -> list[Any]:
        return [inputs for inputs, future in self.futures.items() if future.cancelled()]


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.mark.parametrize("max_in_flight", [1, 2, 3, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_every_batch_has_its_answer(max_in_flight: int, count: int):
    """Both give one answer for each batch, whatever the bound, and `ordered` in their order."""
    doubling = Calls(lambda x: 2 * x)
    answers = list(mapping.ordered(doubling.submit, range(count), max_in_flight))
    assert answers == [2 * x for x in range(count)]
    pairs = list(mapping.unordered(doubling.submit, range(count), max_in_flight))
    assert sorted(pairs) == list(enumerate(answers))


def test_the_order_is_that_of_the_batches(calls: Calls):
    """An answer that comes early waits for those before it."""
    answers = mapping.ordered(calls.submit, _completing_backwards(calls, 3), 3)
    assert list(answers) == ["of 0", "of 1", "of 2"]


def test_unordered_answers_come_as_they_come(calls: Calls):
    """An answer that comes early is given early, with the index of its batch."""
    answers = mapping.unordered(calls.submit, _completing_backwards(calls, 3), 3)
    assert list(answers) == [(2, "of 2"), (1, "of 1"), (0, "of 0")]


def _completing_backwards(calls: Calls, count: int) -> Iterator[int]:
    """Inputs 0 to count-1; once all are submitted they are answered from the last to the first."""
    yield from range(count)
    for inputs in reversed(range(count)):
        calls.futures[inputs].set_result(f"of {inputs}")


@pytest.mark.parametrize("variant", [mapping.ordered, mapping.unordered])
def test_nothing_runs_before_the_first_answer_is_asked_for(calls: Calls, variant: Any):
    """Without a `next` no batch is taken and no call made."""
    answers = variant(calls.submit, calls.batches(range(3)), 2)
    assert calls.read == []
    answers.close()
    assert calls.futures == {}


@pytest.mark.parametrize("variant", [mapping.ordered, mapping.unordered])
def test_no_more_in_flight_than_the_bound(variant: Any):
    """At most `max_in_flight` calls are unanswered and one batch more is taken: an endless stream is fine."""
    calls = Calls(lambda x: x)

    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    answers = variant(calls.submit, calls.batches(endless()), 3)
    for taken in range(1, 20):
        next(answers)
        assert len(calls.futures) - taken <= 3
        assert len(calls.read) - taken <= 3
    answers.close()


@pytest.mark.parametrize("variant", [mapping.ordered, mapping.unordered])
def test_an_error_cancels_the_rest(calls: Calls, variant: Any):
    """The first error comes out as it is; the calls still in flight are cancelled and no batch is taken after it."""

    def failing() -> Iterator[int]:
        yield from range(3)
        calls.futures[0].set_exception(ModelFailed("no"))
        yield from range(3, 100)

    answers = variant(calls.submit, calls.batches(failing()), 3)
    with pytest.raises(ModelFailed, match=r"^no$"):
        next(answers)
    assert calls.cancelled == [1, 2]
    assert calls.read == [0, 1, 2, 3]
    assert list(answers) == []


@pytest.mark.parametrize("variant", [mapping.ordered, mapping.unordered])
def test_an_error_of_the_batches_cancels_the_rest(calls: Calls, variant: Any):
    """An exception in the caller's iterable comes out as it is, and the calls in flight are cancelled."""

    def failing() -> Iterator[int]:
        yield from range(2)
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        next(variant(calls.submit, failing(), 3))
    assert calls.cancelled == [0, 1]


@pytest.mark.parametrize("variant", [mapping.ordered, mapping.unordered])
def test_an_error_of_submit_cancels_the_rest(calls: Calls, variant: Any):
    """A batch that `submit` refuses ends the map, and the calls in flight are cancelled."""

    def submit(inputs: int) -> Future[Any]:
        if inputs == 2:
            raise InvalidInput("expects shape [?, 3]")
        return calls.submit(inputs)

    with pytest.raises(InvalidInput, match="expects shape"):
        next(variant(submit, range(5), 4))
    assert calls.cancelled == [0, 1]


@pytest.mark.parametrize("variant", [mapping.ordered, mapping.unordered])
def test_leaving_the_loop_cancels_the_rest(calls: Calls, variant: Any):
    """Closing the iterator, as leaving a `for` loop does, cancels what is in flight and takes no further batch."""

    def first_answered() -> Iterator[int]:
        yield from range(3)
        calls.futures[0].set_result("of 0")
        yield from range(3, 100)

    answers = variant(calls.submit, calls.batches(first_answered()), 3)
    next(answers)
    answers.close()
    assert calls.cancelled == [1, 2]
    assert calls.read == [0, 1, 2, 3]


def test_an_interrupted_wait_cancels_all():
    """A KeyboardInterrupt while an answer is awaited cancels every call in flight, the awaited one included."""
    made: list[Future[Any]] = []

    class Interrupted(Future[Any]):
        def result(self, timeout: float | None = None) -> Any:
            raise KeyboardInterrupt

    def submit(inputs: Any) -> Future[Any]:
        made.append(Future() if made else Interrupted())
        return made[-1]

    with pytest.raises(KeyboardInterrupt):
        next(mapping.ordered(submit, range(3), 3))
    assert [future.cancelled() for future in made] == [True, True, True]


@pytest.mark.parametrize("variant", [mapping.ordered, mapping.unordered])
@pytest.mark.parametrize("bound", [0, -1])
def test_the_bound_is_at_least_one(calls: Calls, variant: Any, bound: int):
    """A bound below 1 is refused by name where `map` is called, before any answer is asked for."""
    with pytest.raises(InvalidInput, match=f"max_in_flight must be at least 1, got {bound}"):
        variant(calls.submit, range(3), bound)
