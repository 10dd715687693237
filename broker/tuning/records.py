"""Stores measurements: a JSON file for each model, machine and set of settings fixed by hand.

A record only saves time. If one cannot be read or written, that is logged, and the model is measured again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.models.cache_folder import cache_folder
from broker.tuning.setting import SampleTable
from worker_client.system.clock import monotonic

_log = logging.getLogger("onesession.tuning")
_unwritable: set[tuple[str, Path]] = set()

FORMAT = 1
PATIENCE = 3
"""After this many measurements on a busy machine, the record is accepted, because the machine is probably always
busy."""
_CHECK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class RecordKey:
    """The key of a record: `content` is the model's digest, `circumstances` everything else on which a result
    depends."""

    content: str
    circumstances: dict[str, Any]

    @property
    def file_name(self) -> str:
        rest = json.dumps([FORMAT, self.circumstances], sort_keys=True)
        return f"{self.content[:24]}-{hashlib.sha256(rest.encode()).hexdigest()[:16]}.json"


@dataclass(frozen=True, slots=True)
class TuningRecord:
    """A record. `table` None: the model cannot be measured, `note` gives the reason. `busy_times`: how often in a row
    other programs disturbed the measurement.

    `what` is the signature that was measured, with the sizes of its inputs. `seconds` is the allowed time, and
    `complete` means that it was enough to measure everything.
    """

    table: SampleTable | None
    what: str = ""
    note: str = ""
    seconds: float = 0.0
    complete: bool = True
    busy_times: int = 0
    measured_at: str = ""

    @property
    def disturbed(self) -> bool:
        return 0 < self.busy_times < PATIENCE

    def will_do(self, seconds: float) -> bool:
        """Whether a measurement of at most `seconds` would not improve it."""
        return not self.disturbed and (self.complete or seconds <= self.seconds)


class Records:
    """The records in one folder, by default `default_folder()`."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def find(self, key: RecordKey) -> TuningRecord | None:
        path = self.folder / key.file_name
        try:
            return _record(json.loads(path.read_text(encoding="utf-8")), key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            _log.warning(
                "the record %s cannot be read and is measured again: %s: %s",
                path,
                type(error).__name__,
                error,
            )
            return None

    def save(self, key: RecordKey, record: TuningRecord) -> bool:
        """Save a record; False if it cannot be written, which is logged."""
        message = {
            "format": FORMAT,
            "content": key.content,
            "circumstances": key.circumstances,
            "measured_at": record.measured_at or time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "busy_times": record.busy_times,
            "what": record.what,
            "note": record.note,
            "seconds": record.seconds,
            "complete": record.complete,
            "table": None if record.table is None else record.table.to_message(),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(self.folder / key.file_name, json.dumps(message, indent=1))
        except OSError as error:
            report_unwritable("the measurements", self.folder, error)
            return False
        return True

    def forget(self, content: str) -> int:
        """Delete all records of this model; returns how many there were."""
        paths = list(self.folder.glob(f"{content[:24]}-*.json"))
        for path in paths:
            path.unlink(missing_ok=True)
        return len(paths)

    @contextlib.contextmanager
    def measuring(self, seconds: float) -> Iterator[bool]:
        """Hold the lock for measuring, one broker at a time; yields False if it is not free within `seconds`.

        Two brokers that measure at the same time would disturb each other, and often measure the same models.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.folder / "measuring.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield False
            return
        try:
            yield _locked(lock, seconds)
        finally:
            os.close(lock)


def default_folder() -> Path:
    return cache_folder("tuning")


def _record(message: Any, key: RecordKey) -> TuningRecord:
    if message["format"] != FORMAT or message["content"] != key.content:
        raise ValueError("it is of another format or model")
    if message["circumstances"] != json.loads(json.dumps(key.circumstances)):
        raise ValueError("it is of other circumstances")
    table = message["table"]
    return TuningRecord(
        table=None if table is None else SampleTable.from_message(table),
        what=str(message["what"]),
        note=str(message["note"]),
        seconds=float(message["seconds"]),
        complete=bool(message["complete"]),
        busy_times=int(message["busy_times"]),
        measured_at=str(message["measured_at"]),
    )


def report_unwritable(what: str, folder: Path, error: OSError) -> None:
    """Warn once of a folder that keeps nothing, however much there is to keep."""
    if (what, folder) not in _unwritable:
        _unwritable.add((what, folder))
        _log.warning("%s cannot be saved in %s: %s", what, folder, error.strerror)


def write_whole(path: Path, text: str) -> None:
    """Write the file atomically, also with concurrent writers."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _locked(lock: int, seconds: float) -> bool:
    deadline = monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() >= deadline:
                return False
            time.sleep(_CHECK_SECONDS)
        else:
            return True
