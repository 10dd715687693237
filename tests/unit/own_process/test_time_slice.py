"""Short time slices on a processor, as the kernel implements them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from broker.own_process import time_slice
from broker.own_process.time_slice import SLICE_NS, ask_for


def slice_ns() -> int | None:
    """The time slice of the calling thread, as the scheduler reports it; None if it does not."""
    for line in Path("/proc/thread-self/sched").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "se.slice":
            return int(value)
    return None


@pytest.fixture
def one_thread():
    """A thread of its own, so that ours stays as it is."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda function: pool.submit(function).result(30)


def test_they_are_the_callers_alone(one_thread) -> None:
    """Neither other threads nor those that it starts have them."""
    usual, before = one_thread(slice_ns), slice_ns()  # ours may be short: other tests run an intake on it
    if usual is None:
        pytest.skip("this kernel does not tell of slices")
    had = one_thread(partial(ask_for, SLICE_NS))
    if not had:
        pytest.skip("this kernel has no slices to choose")
    assert one_thread(slice_ns) == SLICE_NS
    started: list[int | None] = []

    def start() -> None:
        thread = threading.Thread(target=lambda: started.append(slice_ns()))
        thread.start()
        thread.join()

    one_thread(start)
    assert (slice_ns(), started) == (before, [usual])
    assert (had, one_thread(partial(ask_for, had)), one_thread(slice_ns)) == (usual, SLICE_NS, usual)


def test_where_there_are_none_nothing_happens(one_thread, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine whose system calls have other numbers."""
    monkeypatch.setattr(time_slice.platform, "machine", lambda: "pdp11")
    assert not one_thread(partial(ask_for, SLICE_NS))
