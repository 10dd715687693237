"""What the benchmarks put beside an arm: real processes and a real limit, which are gone afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from benchmarks.harness.host.surroundings import QUIET, Surroundings, group_for, throttled_s
from broker.bench.load.forks import forked
from broker.host.usage import cpu_ns
from tests.brokers import wait_until


def spin() -> None:
    while True:
        pass


@pytest.fixture
def arm() -> Iterator[int]:
    """A process that computes."""
    with forked(spin) as pid:
        yield pid


def test_busy_processes_end_with_their_block() -> None:
    """They compute, at the niceness that was asked for."""
    me = psutil.Process()
    before = set(me.children())
    with Surroundings("b", "", busy=2, nice=10).imposed((), None):
        busy = [child for child in me.children() if child not in before]
        assert len(busy) == 2
        for child in busy:
            wait_until(lambda child=child: cpu_ns(child.pid) > 0 and child.nice() == 10, "it to compute")
    assert set(me.children()) == before


def test_a_real_quota_throttles(arm: int) -> None:
    """The group is there while its block runs, and holds the arm still until the quota is lifted."""
    quota = Surroundings("q", "", quota=0.2)
    with group_for([quota]) as group:
        if group is None:
            pytest.skip("no control group can be made here")
        (group.folder / "cgroup.procs").write_text(str(arm))
        assert throttled_s(group) == 0
        with quota.imposed([arm], group):
            wait_until(lambda: throttled_s(group) > 0, "the arm to be throttled")
        os.kill(arm, signal.SIGKILL)
    assert not group.folder.exists()


def test_an_imitated_quota_stops_and_continues(arm: int) -> None:
    """Where no group can be made; afterwards the arm goes on."""
    with Surroundings("q", "", quota=0.2).imposed([arm], None):
        wait_until(lambda: psutil.Process(arm).status() == psutil.STATUS_STOPPED, "the arm to be stopped")
        wait_until(lambda: psutil.Process(arm).status() != psutil.STATUS_STOPPED, "the arm to go on")
    used = cpu_ns(arm)
    wait_until(lambda: cpu_ns(arm) > used, "the arm to compute")


def test_no_group_without_a_quota() -> None:
    """And no time in which anything stood still."""
    with group_for([QUIET]) as group:
        assert group is None
        assert throttled_s(group) == 0
