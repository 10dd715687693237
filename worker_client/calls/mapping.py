"""Many calls at a time, with a limit on those in flight: replaces a pool of processes with a session each."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from worker_client.interpreter import fork
from worker_client.interpreter import patched as monkey
from worker_client.wire.errors import InvalidInput

Submit = Callable[[Any], "Future[Any]"]


def ordered(submit: Submit, batches: Iterable[Any], max_in_flight: int) -> Iterator[Any]:
    """Answers in the order of `batches`. At most `max_in_flight` batches are read ahead of the answers."""
    _check(max_in_flight)  # when it is called, not at the first answer
    return _ordered(submit, batches, max_in_flight)


def _ordered(submit: Submit, batches: Iterable[Any], max_in_flight: int) -> Iterator[Any]:
    pending: deque[Future[Any]] = deque()
    try:
        for inputs in batches:
            if len(pending) == max_in_flight:
                yield _first(pending)
            pending.append(submit(inputs))
        while pending:
            yield _first(pending)
    finally:
        for future in pending:
            future.cancel()


def unordered(submit: Submit, batches: Iterable[Any], max_in_flight: int) -> Iterator[tuple[int, Any]]:
    """Yields (index of the batch, answer) as the answers arrive."""
    _check(max_in_flight)
    return _unordered(submit, batches, max_in_flight)


def _unordered(submit: Submit, batches: Iterable[Any], max_in_flight: int) -> Iterator[tuple[int, Any]]:
    done: queue.SimpleQueue[Future[Any]] = monkey.simple_queue()
    pending: dict[Future[Any], int] = {}
    process = fork.here()
    try:
        for index, inputs in enumerate(batches):
            if len(pending) == max_in_flight:
                yield _next(done, pending, process)
            future = submit(inputs)
            pending[future] = index
            future.add_done_callback(done.put)
        while pending:
            yield _next(done, pending, process)
    finally:
        for future in pending:
            future.cancel()


def _first(pending: deque[Future[Any]]) -> Any:
    answer = pending[
        0
    ].result()  # it stays in `pending`, so that an interrupted wait cancels it with the rest
    pending.popleft()
    return answer


def _next(
    done: queue.SimpleQueue[Future[Any]], pending: dict[Future[Any], int], process: fork.Process
) -> tuple[int, Any]:
    if not process.word[0]:
        raise fork.not_ours("the call")  # the callbacks of the parent's futures are not called in a child
    future = done.get()
    return pending.pop(future), future.result()


def _check(max_in_flight: int) -> None:
    if max_in_flight < 1:
        raise InvalidInput(f"max_in_flight must be at least 1, got {max_in_flight}")
