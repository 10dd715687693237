"""What a thread has waited for a processor, as Linux counts it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.workers import in_child
from worker_client.system import processor_wait
from worker_client.system.clock import monotonic_ns
from worker_client.system.processor_wait import ProcessorWait, waited_ns

NEEDS = pytest.mark.skipif(
    not Path("/proc/thread-self/schedstat").exists(), reason="this kernel does not count it"
)

PATIENCE_NS = 60_000_000_000
BUSY = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


@NEEDS
def test_threads_on_one_processor_wait_for_each_other() -> None:
    """Each of two that compute without the interpreter's lock has what the other has not."""
    found: list[int] = []
    cpu = min(os.sched_getaffinity(0))
    begin = threading.Barrier(2)

    def compute() -> None:
        import hashlib

        os.sched_setaffinity(0, {cpu})
        waits, data = ProcessorWait(), bytes(1 << 24)
        begin.wait()
        waits.mark(0)
        for _ in range(4):
            hashlib.sha256(data)
        found.append(waits.lost_ns(0))

    threads = [threading.Thread(target=compute) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(found) > 1_000_000


def test_what_was_lost_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Since the last mark, or since somebody asked."""
    total = iter([100, 150, 150, 120])
    monkeypatch.setattr(processor_wait, "waited_ns", lambda: next(total))
    waits = ProcessorWait()
    waits.mark(7)
    assert [waits.lost_ns(8) for _ in range(3)] == [50, 0, 0]


def test_a_kernel_that_does_not_count_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processor_wait, "_PATH", str(tmp_path / "nothing"))
    assert waited_ns() == 0
    (tmp_path / "empty").touch()
    monkeypatch.setattr(processor_wait, "_PATH", str(tmp_path / "empty"))
    assert waited_ns() == 0


def test_whom_a_loss_is_owed_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """To other threads, if this one waited for most of it since it looked last."""
    total = iter([100, 100, 160, 205])
    monkeypatch.setattr(processor_wait, "waited_ns", lambda: next(total))
    waits = ProcessorWait()
    waits.mark(7)
    assert [waits.explains(100, 8) for _ in range(3)] == [False, True, False]


def test_whom_a_loss_is_owed_to_in_a_thread_that_has_not_looked_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it waited before is not known, so the loss counts."""
    monkeypatch.setattr(processor_wait, "waited_ns", lambda: 100)
    waits = ProcessorWait()
    thread = threading.Thread(target=waits.mark, args=(7,))
    thread.start()
    thread.join()
    assert waits.explains(100, 8)
    assert not waits.explains(100, 9)


def test_a_loss_where_waiting_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor_wait, "waited_ns", lambda: 0)
    waits = ProcessorWait()
    waits.mark(7)
    assert waits.explains(100, 8)


@NEEDS
def test_a_processor_that_another_process_uses() -> None:
    """Each loss is owed to it, not only the first."""
    processor = min(os.sched_getaffinity(0))
    busy = subprocess.Popen([sys.executable, "-c", BUSY, str(processor)])
    try:
        assert in_child(_losses_on, processor, 5).count(True) >= 3  # a host may take some
    finally:
        busy.kill()
        busy.wait()


def _losses_on(processor: int, count: int) -> list[bool]:
    os.sched_setaffinity(0, {processor})
    waits, found = ProcessorWait(), []
    waits.mark(monotonic_ns())
    before = begun = monotonic_ns()
    while len(found) < count:
        now = monotonic_ns()
        assert now - begun < PATIENCE_NS, "the clock never jumped"
        if now - before > 2_000_000:
            found.append(waits.explains(now - before, now))
            now = monotonic_ns()
        before = now
    return found
