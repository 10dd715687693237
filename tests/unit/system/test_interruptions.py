"""Whether a thread lost its processor to others, as Linux counts it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from tests.workers import in_child
from worker_client.system import interruptions
from worker_client.system.clock import monotonic_ns
from worker_client.system.interruptions import Interruptions

PATIENCE_NS = 60_000_000_000
LOST_NS = 2_000_000
BUSY = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


def test_only_what_came_after_the_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([7, 7, 9, 9])
    monkeypatch.setattr(interruptions, "interruptions", lambda: next(counts))
    found = Interruptions()
    found.mark(1)
    assert [found.happened(2) for _ in range(3)] == [False, True, False]


def test_a_thread_that_has_not_looked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of it yet, so it may have been interrupted."""
    monkeypatch.setattr(interruptions, "interruptions", lambda: 7)
    found = Interruptions()
    thread = threading.Thread(target=found.mark, args=(1,))
    thread.start()
    thread.join()
    assert [found.happened(2) for _ in range(2)] == [True, False]


def test_a_processor_that_another_process_uses() -> None:
    """Each loss is owed to it, not only the first."""
    processor = min(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", BUSY, str(processor)]) as busy:
        try:
            assert in_child(_losses_on, processor, 5).count(True) >= 3  # a host may take some
        finally:
            busy.kill()


def _losses_on(processor: int, count: int) -> list[bool]:
    os.sched_setaffinity(0, {processor})
    interrupted, found = Interruptions(), []
    interrupted.mark(0)
    before = begun = monotonic_ns()
    while len(found) < count:
        now = monotonic_ns()
        assert now - begun < PATIENCE_NS, "the clock never jumped"
        if now - before > LOST_NS:
            found.append(interrupted.happened(now))
            now = monotonic_ns()
        before = now
    return found
