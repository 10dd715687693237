"""What is remembered, and what happens to records that cannot be read or written."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from broker.tuning.records import PATIENCE, RecordKey, Records, TuningRecord, default_folder
from tests.unit.tuning.tables import table

KEY = RecordKey("a" * 64, {"machine": {"cpu": "x"}, "tags": ["serve"], "fixed": {"onednn": None}})
RECORD = TuningRecord(table({"2x1 pool on": (10, [100, 200, 300])}), what="serving_default", seconds=10.0)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "made" / "here")


def file_of(records: Records, key: RecordKey = KEY) -> Path:
    return records.folder / key.file_name


def test_a_record_is_found_again(records: Records):
    """By the same key, with all that was in it, and the time at which it was made."""
    assert records.find(KEY) is None
    assert records.save(KEY, RECORD)
    found = records.find(KEY)
    assert found is not None
    assert found.table is not None
    assert found.table.to_message() == RECORD.table.to_message()
    assert (found.what, found.seconds, found.complete, found.busy_times) == ("serving_default", 10.0, True, 0)
    assert found.measured_at


def test_why_a_model_cannot_be_measured_is_remembered(records: Records):
    """So that not every start tries again."""
    records.save(KEY, TuningRecord(None, note="the rank of input x is unknown"))
    found = records.find(KEY)
    assert found is not None
    assert (found.table, found.note) == (None, "the rank of input x is unknown")


@pytest.mark.parametrize(
    "other",
    [
        RecordKey("b" * 64, KEY.circumstances),
        RecordKey(KEY.content, {**KEY.circumstances, "machine": {"cpu": "y"}}),
        RecordKey(KEY.content, {**KEY.circumstances, "fixed": {"onednn": True}}),
    ],
    ids=["content", "machine", "fixed"],
)
def test_anything_else_has_a_record_of_its_own(records: Records, other: RecordKey):
    """Another model, machine, or setting by hand."""
    records.save(KEY, RECORD)
    assert records.find(other) is None


def broken(**changes: Any) -> str:
    return json.dumps({**json.loads(whole()), **changes})


def whole() -> str:
    records = Records(Path(os.environ["ONESESSION_TEST_FOLDER"]))
    records.save(KEY, RECORD)
    return file_of(records).read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 99},
        {"content": "b" * 64},
        {"circumstances": {}},
        {"busy_times": "often"},
        {"table": 7},
        {"table": {"default": {}, "sizes": [1], "measured": []}},
        {"table": {"default": None, "sizes": [], "measured": []}},
        {"table": {"sizes": [1], "measured": []}},
        {"seconds": None},
    ],
    ids=str,
)
def test_a_record_with_something_else_in_it(records: Records, change: dict[str, Any], caplog, monkeypatch):
    """It is told, and counts as none."""
    monkeypatch.setenv("ONESESSION_TEST_FOLDER", str(records.folder))
    file_of(records).parent.mkdir(parents=True)
    file_of(records).write_text(broken(**change))
    assert records.find(KEY) is None
    assert "cannot be read and is measured again" in caplog.text
    assert records.save(KEY, RECORD)
    assert records.find(KEY) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"rows_per_s": 0},
        {"rows_per_s": -5},
        {"p50_us": float("nan")},
        {"p50_us": "7"},
        {"other": 1},
    ],
    ids=str,
)
def test_a_record_with_impossible_numbers(records: Records, change: dict[str, Any], caplog):
    """Nothing is chosen by them."""
    records.save(KEY, RECORD)
    message = json.loads(file_of(records).read_text())
    message["table"]["measured"][0]["samples"][0].update(change)
    file_of(records).write_text(json.dumps(message))
    assert records.find(KEY) is None
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00\xff", "7"], ids=repr)
def test_a_file_that_is_no_record(records: Records, text: str, caplog):
    """Cut off, empty or nonsense: it is told and counts as none."""
    file_of(records).parent.mkdir(parents=True)
    file_of(records).write_text(text, encoding="latin-1")
    assert records.find(KEY) is None
    assert file_of(records).name in caplog.text


def test_a_file_that_is_a_directory(records: Records, caplog):
    """As any other file that cannot be read."""
    file_of(records).mkdir(parents=True)
    assert records.find(KEY) is None
    assert not records.save(KEY, RECORD)
    assert list(records.folder.glob(".writing-*")) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path, caplog):
    """That nothing can be remembered is told, and is no error; neither is the lock."""
    (tmp_path / "file").touch()
    records = Records(tmp_path / "file" / "below")
    assert not records.save(KEY, RECORD)
    assert not records.save(KEY, RECORD)
    assert caplog.text.count("cannot be saved in") == 1
    assert records.find(KEY) is None
    with records.measuring(0) as ours:
        assert not ours
    assert records.forget(KEY.content) == 0


def test_nobody_else_may_read_it(records: Records):
    """The folder and the files are the user's own."""
    records.save(KEY, RECORD)
    assert stat.S_IMODE(records.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file_of(records).stat().st_mode) == 0o600
    assert [path.name for path in records.folder.iterdir()] == [KEY.file_name]


def test_forgetting_a_model(records: Records):
    """Drops it for every machine and every setting, and no other model."""
    other = RecordKey("b" * 64, KEY.circumstances)
    for key in (KEY, RecordKey(KEY.content, {"machine": "other"}), other):
        records.save(key, RECORD)
    assert records.forget(KEY.content) == 2
    assert records.find(KEY) is None
    assert records.find(other) is not None


def test_one_measures_at_a_time(records: Records):
    """A second one is told that it has not got the right, after the time it would wait."""
    with records.measuring(0) as first:
        assert first
        with records.measuring(0.05) as second:
            assert not second
    with records.measuring(0) as again:
        assert again


@pytest.mark.parametrize(
    ("record", "seconds", "will_do"),
    [
        (TuningRecord(None), 10, True),
        (TuningRecord(None, busy_times=1), 10, False),
        (TuningRecord(None, busy_times=PATIENCE), 10, True),
        (TuningRecord(None, complete=False, seconds=10), 10, True),
        (TuningRecord(None, complete=False, seconds=10), 30, False),
        (TuningRecord(None, complete=True, seconds=1), 30, True),
    ],
    ids=str,
)
def test_what_is_measured_again(record: TuningRecord, seconds: float, will_do: bool):
    """What others disturbed, unless they always do; what time ran out for, if there is more of it now."""
    assert record.will_do(seconds) is will_do


def test_where_records_lie(monkeypatch):
    """In the user's cache folder, where $XDG_CACHE_HOME says if it is absolute."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    assert default_folder() == Path("/var/cache/me/onesession/tuning")
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        monkeypatch.setenv("HOME", "/home/me")
        assert default_folder() == Path("/home/me/.cache/onesession/tuning")


@pytest.fixture(autouse=True)
def _log_level(caplog):
    caplog.set_level(logging.DEBUG, "onesession.tuning")
