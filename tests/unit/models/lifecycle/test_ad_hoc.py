"""The number of callables for sessions is limited, each worker has its share, and unused ones make room."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from broker.models.lifecycle import ad_hoc
from broker.models.lifecycle.ad_hoc import AdHocSignatures
from broker.models.lifecycle.version import Version
from broker.models.spec import ModelSpec
from worker_client import Overloaded


class Asked:
    """Sets of feeds and fetches by name, asked for by workers."""

    def __init__(self) -> None:
        self.all = AdHocSignatures()
        self.version = Version(1, ModelSpec("m", "/m"))
        self.made = 0

    def ask(self, key: Any, worker: str) -> bool:
        """Ask for a callable. True if another one was removed for it."""
        if self.all.found(self.version, key, worker) is not None:
            return False
        went = self.all.make_room([self.version], worker)
        self.made += 1
        entry: Any = SimpleNamespace(id=self.made)
        self.all.add(self.version, key, (entry, ()), worker)
        return went

    @property
    def keys(self) -> list[Any]:
        return list(self.version.ad_hoc)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    monkeypatch.setattr(ad_hoc, "MOST", 4)
    monkeypatch.setattr(ad_hoc, "SHARE", 2)
    return Asked()


def test_a_worker_has_its_share(asked: Asked) -> None:
    """What others have made counts as well, once it asks for it; what it has it goes on getting."""
    for key in "ab":
        asked.ask(key, "one")
    with pytest.raises(Overloaded, match="this worker's sessions have asked for 2 .* its share of 4"):
        asked.ask("c", "one")
    for key in "cb":
        asked.ask(key, "other")
    asked.ask("a", "one")
    with pytest.raises(Overloaded, match="its share"):
        asked.ask("a", "other")
    assert asked.keys == ["c", "b", "a"]


def test_what_nobody_has_any_more_makes_room(asked: Asked) -> None:
    """The one first that was asked for longest ago; what somebody has stays."""
    for key, worker in ("a1", "b1", "c2", "d2"):
        assert not asked.ask(key, worker)
    with pytest.raises(Overloaded, match="have asked for 4 different sets"):
        asked.ask("e", "3")
    asked.all.release("1")
    assert not asked.ask("a", "4")
    assert asked.ask("e", "3")
    assert asked.keys == ["c", "d", "a", "e"]
    with pytest.raises(Overloaded):
        asked.ask("f", "3")


def test_those_of_an_unloaded_version_count_no_more(asked: Asked) -> None:
    """As it is gone with all that it had."""
    for key in "ab":
        asked.ask(key, "one")
    asked.version.ad_hoc.clear()
    for key in "ab":
        asked.ask(key, "one")
    assert asked.keys == ["a", "b"]


def test_the_limits_are_those_of_the_docs() -> None:
    """Four workers hold all 1,000, 250 each. A fifth is refused until one of them leaves."""
    asked = Asked()
    for worker in "abcd":
        for number in range(250):
            assert not asked.ask(f"{worker}{number}", worker)
        with pytest.raises(Overloaded, match="its share of 1,000"):
            asked.ask(f"{worker}250", worker)
    with pytest.raises(Overloaded, match="asked for 1000 different sets"):
        asked.ask("e0", "e")
    asked.all.release("b")
    assert asked.ask("e0", "e")
    assert "b0" not in asked.keys
