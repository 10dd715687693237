"""When what could not be loaded is tried again."""

from __future__ import annotations

import dataclasses

import pytest

from broker.models.lifecycle.retries import FailedVersion, LoadRetries
from broker.models.lifecycle.served_model import ServedModel
from broker.models.lifecycle.version import Version, VersionState
from broker.models.spec import ModelSpec

SPEC = ModelSpec("m", "models/m")


def version(number: int, fingerprint: str = "f", is_numbered: bool = True) -> Version:
    return Version(number, SPEC, fingerprint, is_numbered)


def test_the_pauses_double_up_to_five_minutes() -> None:
    """The pauses after failures double up to five minutes, and a try is due only after its pause."""
    retries, now = LoadRetries(), 1000.0
    pauses = []
    for _ in range(12):
        told = retries.failed(version(3), now)
        due = retries.next_s()
        assert due is not None
        pause = due - now
        assert told == f"; it is tried again in {pause:g} s"
        assert retries.due("m", now + pause - 0.01) == []
        now += pause
        assert retries.due("m", now) == [FailedVersion("m", 3, "f")]
        assert retries.due("other", now) == []
        pauses.append(pause)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_another_try_begins_anew() -> None:
    """One with other files, or after it was loaded once."""
    retries = LoadRetries()
    assert [retries.failed(version(3), 0)[-4:] for _ in range(3)] == [" 1 s", " 2 s", " 4 s"]
    assert retries.failed(version(3, "other"), 0).endswith(" 1 s")
    retries.forget(FailedVersion("m", 3, "f"))
    assert version(3) not in retries
    assert retries.failed(version(3), 0).endswith(" 1 s")


def test_what_is_not_tried_again() -> None:
    """A load without an end, which would leave one more thread behind each time; and what has no files."""
    retries, abandoned = LoadRetries(), version(3)
    abandoned.abandoned = True
    assert retries.failed(abandoned, 0) == ""
    assert retries.failed(version(1, "", is_numbered=False), 0) == ""
    assert retries.next_s() is None


@pytest.mark.parametrize(
    ("on_disk", "tried"),
    [
        ([(3, "f", True)], [3]),
        ([(3, "changed", True)], []),
        ([(4, "g", True)], []),
        ([(2, "f", False)], [3]),
        ([], []),
    ],
    ids=["as it was", "changed", "not wanted", "unnumbered", "removed"],
)
def test_only_what_is_wanted_and_as_it_was_is_tried(
    on_disk: list[tuple[int, str, bool]], tried: list[int]
) -> None:
    """The rest is forgotten: a poll or a reload loads what has changed."""
    retries = LoadRetries()
    retries.failed(version(3), 0)
    found = [version(*each) for each in on_disk]
    again = list(retries.again(ServedModel(SPEC), found, retries.due("m", 1)))
    assert [each.number for each in again] == tried
    assert (retries.next_s() is None) == (not tried)


@pytest.mark.parametrize(
    ("number", "unload_first"), [(3, False), (2, True)], ids=["it is served", "another would go first"]
)
def test_what_is_served_is_left_alone(number: int, unload_first: bool) -> None:
    retries, served = LoadRetries(), ServedModel(dataclasses.replace(SPEC, unload_first=unload_first))
    retries.failed(version(3), 0)
    there = version(number)
    there.enter(VersionState.AVAILABLE)
    served.versions.append(there)
    assert list(retries.again(served, [version(3)], retries.due("m", 1))) == []
    assert retries.next_s() is None
