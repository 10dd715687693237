"""How much other programs use the processors, from files and process clocks."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from broker.host.neighbours import CHECK_NS, Neighbours

SECOND = 1_000_000_000


class Machine:
    """Two processors, whose idle time the test makes up; the calling process uses `ours` of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "proc").mkdir()
        self.now_ns = self.own_ns = self.idle_ticks = 0
        self.neighbours = Neighbours({0, 1}, root)

    def goes_on(self, idle: float, own: float = 0.0, ns: int = 2 * CHECK_NS) -> None:
        """Time goes by in which so many processors were idle, and our thread ran on so many."""
        self.now_ns += ns
        self.own_ns += int(own * ns)
        self.idle_ticks += round(idle / 2 * ns / SECOND * os.sysconf("SC_CLK_TCK"))
        lines = [f"cpu{number} 7 7 7 {self.idle_ticks} 0 0 0 0 0 0\n" for number in (0, 1, 2)]
        (self.root / "proc/stat").write_text("cpu  1 2 3 4 5 6 7 8 9 10\n" + "".join(lines) + "intr 5\n")
        self.neighbours.sample(self.now_ns, self.own_ns, (), ())


def test_what_is_neither_idle_nor_ours(tmp_path: Path) -> None:
    """Half a core of other load counts as contention, which ends below a quarter; both are averages, so one reading
    decides little."""
    machine = Machine(tmp_path)
    machine.goes_on(idle=2)
    for _ in range(5):
        machine.goes_on(idle=1, own=1)
    assert machine.neighbours.cores == pytest.approx(0)
    assert not machine.neighbours.crowded
    machine.goes_on(idle=1.2)
    assert machine.neighbours.cores == pytest.approx(0.4)
    assert not machine.neighbours.crowded
    machine.goes_on(idle=1.2)
    assert machine.neighbours.crowded
    assert "0.60 of 2 cores busy" in repr(machine.neighbours)
    machine.goes_on(idle=2)
    assert machine.neighbours.crowded
    machine.goes_on(idle=2)
    assert not machine.neighbours.crowded


def test_a_pause_without_calls(tmp_path: Path) -> None:
    """There were no samples in it, and what computed then says nothing about the calls that follow. They begin as the
    last ones ended, and the first sample alone decides."""
    machine = Machine(tmp_path)
    for _ in range(4):
        machine.goes_on(idle=1)
    assert machine.neighbours.crowded
    machine.goes_on(idle=2, ns=SECOND)
    assert machine.neighbours.crowded
    machine.goes_on(idle=2)
    assert not machine.neighbours.crowded
    machine.goes_on(idle=0, ns=SECOND)
    assert not machine.neighbours.crowded
    machine.goes_on(idle=1)
    assert machine.neighbours.crowded


def test_less_than_nothing_is_nothing(tmp_path: Path) -> None:
    """The kernel counts idle time in steps, and our time by the nanosecond."""
    machine = Machine(tmp_path)
    machine.goes_on(idle=2)
    machine.goes_on(idle=1.5, own=0.7)
    assert machine.neighbours.cores == 0.0


def test_callers_are_ours(tmp_path: Path) -> None:
    """Processes that may be polling, each once however many channels it has."""
    machine = Machine(tmp_path)
    machine.goes_on(idle=2)
    me = os.getpid()
    for callers, others in (((me, me), 0.0), ((), 2.0)):
        machine.neighbours.sample(machine.now_ns, 0, callers, (me,))
        used = time.process_time_ns()
        while time.process_time_ns() - used < SECOND // 10:
            pass
        machine.neighbours.cores = 0.0
        machine.neighbours.sample(
            machine.now_ns + SECOND // 20, 0, callers, (me,)
        )  # 0.1 s of idleness less than there was
        assert machine.neighbours.cores == pytest.approx(others / 2, abs=0.01)


@pytest.mark.parametrize("caller", [0, 2**22 + 1])
def test_callers_that_cannot_be_seen(tmp_path: Path, caller: int) -> None:
    """In another namespace of process ids, or gone: what they use is not to be told from what others do."""
    machine = Machine(tmp_path)
    machine.goes_on(idle=2)
    for _ in range(3):
        machine.goes_on(idle=0)
    assert machine.neighbours.crowded
    machine.neighbours.sample(machine.now_ns + CHECK_NS, 0, (caller,), (os.getpid(), caller))
    assert (machine.neighbours.cores, machine.neighbours.crowded) == (0.0, False)


def test_where_the_machine_does_not_tell(tmp_path: Path) -> None:
    """Where the machine gives no figures, no other program is assumed to compute; the next check is due as usual."""
    neighbours = Neighbours({0, 1}, tmp_path)
    (tmp_path / "proc").mkdir()
    for second, text in enumerate(
        ["", "cpu0 1\ncpu1 2\n", "cpu0 1 2 3 x 5 6\ncpu1 1 2 3 4 5 6\n", "cpu0 1 2 3 4 5 6\n"]
    ):
        (tmp_path / "proc/stat").write_text(text)
        neighbours.sample(second * SECOND, 0, (), ())
        assert (neighbours.cores, neighbours.due_ns) == (0.0, second * SECOND + CHECK_NS)
