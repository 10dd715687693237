"""Whether there is memory for the processes that measure, on machines and in containers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.host.memory_left import left_bytes
from broker.tuning import experiment
from broker.tuning.experiment import NotMeasurable, ProbePool
from tests.unit.host.trees import MIB, V1_DOCKER, V2_HOST, Tree, v1_groups

LIMIT, FULL = 4096 * MIB, 4000 * MIB


class FakeProbe:
    """A process that measures, as far as its start is concerned."""

    def __init__(self, onednn: bool | None) -> None:
        self._onednn = onednn is not False

    def answer(self, seconds: float) -> dict[str, Any]:
        return {"onednn": self._onednn}

    def kill(self) -> None:
        pass


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`container(version, inactive_file)`: this process is in one whose limit of 4 GiB is nearly used up."""

    def make(version: int, inactive_file: int) -> None:
        if version == 2:
            tree = Tree(tmp_path, V2_HOST, "0::/\n")
            tree.v2_memory("", LIMIT, FULL, inactive_file)
        else:
            tree = Tree(tmp_path, V1_DOCKER, v1_groups("/docker/4f1c"))
            tree.v1_memory("", LIMIT, FULL, inactive_file)
        monkeypatch.setattr(experiment, "left_bytes", lambda: left_bytes(tree.root))

    monkeypatch.setattr(experiment, "ProbeProcess", FakeProbe)
    return make


@pytest.mark.parametrize("version", [1, 2])
def test_a_warm_cache_does_not_keep_a_model_from_being_measured(container: Any, version: int) -> None:
    """The model's own files, read by the load, are most of what a container has in use."""
    container(version, inactive_file=3000 * MIB)
    with ProbePool(None, both=True, weights=100 * MIB) as probe_pool:
        assert sorted(probe_pool._probes) == [False, True]


@pytest.mark.parametrize("version", [1, 2])
def test_in_a_full_container_nothing_is_measured(container: Any, version: int) -> None:
    """Whatever the machine around it has: the kernel would end a process there."""
    container(version, inactive_file=0)
    with (
        pytest.raises(NotMeasurable, match="more than is free"),
        ProbePool(None, both=True, weights=100 * MIB),
    ):
        pass


def test_where_nobody_tells_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without limits."""
    monkeypatch.setattr(experiment, "ProbeProcess", FakeProbe)
    monkeypatch.setattr(experiment, "left_bytes", lambda: None)
    with ProbePool(None, both=False, weights=100 * MIB) as probe_pool:
        assert list(probe_pool._probes) == [True]
