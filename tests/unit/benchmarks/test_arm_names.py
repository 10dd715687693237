"""Arms are named by strings, which no import checks: each names a function that there is."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest

from benchmarks.latency import mlp
from benchmarks.peers.local import LOCAL
from benchmarks.peers.other_system import SystemSetting
from benchmarks.throughput.contenders import KINDS, ModelPlace, arm


def names() -> Iterator[str]:
    place = ModelPlace("model", "folder")
    arms = [*mlp.arms("model", {"adaptive": "address"}), *(arm(kind, "one", 2, place) for kind in KINDS)]
    for each in arms:
        yield from named(each.factory, each.options)
    setting = SystemSetting("mlp", "model", "folder")
    for system in LOCAL:
        for way in system.ways:
            yield from named(way.factory, way.options(setting, 1))


def named(factory: str, options: dict) -> Iterator[str]:
    yield factory
    if "factory" in options:
        yield options["factory"]


@pytest.mark.parametrize("name", sorted(set(names())))
def test_there_is_such_an_arm(name: str) -> None:
    module, _, function = name.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
