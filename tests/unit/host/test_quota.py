"""A limit that changes, and how long it has kept its group standing still."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.host.quota import QuotaWatch
from tests.unit.host.trees import V1_HOST, V2_HOST, Tree, v1_groups


@pytest.mark.parametrize("version", [1, 2])
def test_the_last_minute_counts(tmp_path: Path, version: int) -> None:
    """Seconds in which the group's processors stood still; what is older than a minute is forgotten."""
    mounts, paths = (V1_HOST, v1_groups("/web")) if version == 1 else (V2_HOST, "0::/web\n")
    tree = Tree(tmp_path, mounts, paths)
    folder = "sys/fs/cgroup/cpu,cpuacct/web" if version == 1 else "sys/fs/cgroup/web"

    def set_quota(processors: float) -> None:
        if version == 1:
            tree.v1_quota("web", int(processors * 100_000) if processors else -1)
        else:
            tree.v2_quota("web", f"{int(processors * 100_000)} 100000" if processors else "max 100000")

    def sample(now_s: float, throttled_s: int) -> float:
        text = (
            f"throttled_time {throttled_s * 10**9}"
            if version == 1
            else f"throttled_usec {throttled_s * 10**6}"
        )
        tree.write(f"{folder}/cpu.stat", f"nr_periods 10\nnr_throttled 3\n{text}\n")
        watch.sample(now_s)
        return watch.throttled_s

    set_quota(1.5)
    watch = QuotaWatch(tree.root)
    assert (sample(10, 5), watch.processors) == (0.0, 1.5)
    assert sample(30, 7) == 2.0
    assert sample(65, 8) == 3.0
    assert sample(80, 8) == 1.0
    set_quota(0)
    watch.sample(200)
    assert (watch.processors, watch.throttled_s) == (None, 0.0)


def test_where_there_are_no_groups(tmp_path: Path) -> None:
    """No limit is known, and nobody is known to stand still."""
    watch = QuotaWatch(tmp_path)
    watch.sample(1.0)
    assert (watch.processors, watch.throttled_s) == (None, 0.0)
