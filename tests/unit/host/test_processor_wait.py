"""What a thread has waited for a processor, as Linux counts it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from broker.host import processor_wait
from broker.host.processor_wait import ProcessorWait, waited_ns

NEEDS = pytest.mark.skipif(
    not Path("/proc/thread-self/schedstat").exists(), reason="this kernel does not count it"
)


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
