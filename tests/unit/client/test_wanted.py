"""What a process wants of its node's broker: the configuration, and whether files are the same as before."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from worker_client import InvalidInput
from worker_client.node.fingerprint import fingerprint
from worker_client.node.toml import table
from worker_client.node.wanted import Wanted

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ODD = {
    "text": 'a "quoted" \\ path\x7f\n\u00e9',
    "a key": True,
    "numbers": [1, -2, 0.5, math.inf, -math.inf],
    "table": {"b": {"c": [1]}, "a": ""},
    "path": Path("/models/digits"),
    "set": frozenset({3, 1, 2}),
    "left out": None,
}


def wanted(models: Any, job: Any = None, log: Any = None, idle_seconds: Any = 1, **settings: Any) -> Wanted:
    return Wanted.of(models, idle_seconds, job, log, settings)


def test_what_is_written_is_what_is_read() -> None:
    read = tomllib.loads("\n".join(table(("models", "a.b"), ODD)))["models"]["a.b"]
    expected = {**ODD, "path": "/models/digits", "set": [1, 2, 3]}
    del expected["left out"]
    assert read == expected


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"models": {}}, "models must be a dict"),
        ({"models": {"m": 3}}, "expected a path"),
        ({"models": {"m": {"slots": 1}}}, "a dict with a 'source'"),
        ({"models": {3: "/m"}}, "a model's name must be a string"),
        ({"models": {"m": "/m"}, "slots": object()}, "slots of a node broker must be"),
        ({"models": {"m": "/m"}, "name": "x"}, "leave out name and address"),
        ({"models": {"m": "/m\udc80"}}, "not UTF-8 text"),
        ({"models": {"m": "/m"}, "idle_seconds": 0}, "idle_seconds must be"),
        ({"models": {"m": "/m"}, "idle_seconds": math.nan}, "idle_seconds must be"),
        ({"models": {"m": "/m"}, "job": ["a"]}, "job must be a string"),
        ({"models": {"m": "/m"}, "log": 3}, "log must be a string"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        wanted(**arguments)


def test_relative_paths_are_of_the_process_that_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert wanted({"m": "model"}).config == wanted({"m": {"source": tmp_path / "model"}}).config
    assert wanted({"f": "package.module:name"}).files == ()


def test_a_file_that_was_written_anew_is_another_whatever_its_times_say(tmp_path: Path) -> None:
    file = tmp_path / "model" / "variables"
    file.parent.mkdir()
    file.write_bytes(b"one")
    before, times = fingerprint(str(file.parent)), os.stat(file)
    assert fingerprint(str(file.parent)) == before
    file.write_bytes(b"two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fingerprint(str(file.parent)) != before


def test_links_to_folders_above_have_an_end(tmp_path: Path) -> None:
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    assert fingerprint(str(tmp_path)) == fingerprint(str(tmp_path))
    assert fingerprint(str(tmp_path / "gone")) != fingerprint(str(tmp_path))
