"""The log that brokers write to stderr: one line for each event, for people or for programs.

text    2026-01-31 12:00:00,123 broker[4711] WARNING requests: a request of pid 4720 failed: ...
json    {"time": "2026-01-31T12:00:00.123Z", "level": "warning", "logger": "onesession.requests", "pid": 4711,
         "message": "a request of pid 4720 failed: ...", "model": "digits", "error": "ModelFailed", ...}

A library does not configure logging: an app that serves from its own process finds these records where it has
configured `logging` to write them. The levels:

debug    a request was dropped because its worker has gone
info     loading, tuning, serving, stopping; requests whose callers no longer waited
warning  failed requests (one line in ten seconds for each model and class, with the lines left out); peers that
         broke the rules; a restart that worked
error    a broker that died, a connection that could not be taken; critical: serving has stopped
"""

from __future__ import annotations

import json
import logging
import re
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from broker.config.log_writer import LogWriter

ROOT = "onesession"
_STDERR = 2


class LogFormat(Enum):
    TEXT = "text"
    JSON = "json"


class LogLevel(Enum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


# Unicode characters that terminals act on: controls, line ends, and marks that change the direction of text.
_UNSEEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """`text` with each character escaped that a terminal would act on: names and messages come from workers and
    models."""
    return _UNSEEN.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


class TextFormatter(logging.Formatter):
    """Formats an event as one line, followed by the traceback if there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s broker[%(process)d] %(levelname)s %(subject)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        record.subject = record.name.removeprefix(f"{ROOT}.")
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        record.message = visible(" | ".join(record.message.splitlines()))
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        return "\n".join(map(visible, super().formatException(ei).split("\n")))


class JsonFormatter(logging.Formatter):
    """Formats an event as one JSON object on one line, which includes the fields of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, timezone.utc)
        event: dict[str, Any] = {
            "time": f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        event.update({key: value for key, value in vars(record).items() if key not in _OWN})
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return _UNSEEN.sub(_escaped, json.dumps(event, default=str, ensure_ascii=False))


class WriterHandler(logging.Handler):
    """Passes records to a LogWriter, so that a thread that logs does not wait for the reader (`log_writer.py`)."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self.writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.writer.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Called by `logging` itself when the process ends."""
        self.writer.flush()


_handler: WriterHandler | None = None


def _writing() -> WriterHandler:
    global _handler
    if _handler is None:
        _handler = WriterHandler(LogWriter(_STDERR))
    return _handler


def write_apart() -> None:
    """From now on a separate thread writes the log, so that other threads are not delayed."""
    if _handler is not None:
        _handler.writer.start()


def log_to_stderr(level: str = LogLevel.INFO.value, format: str = LogFormat.TEXT.value) -> None:
    """Write all records of this level and above, and warnings of other libraries. For processes that belong to the
    broker alone."""
    handler = _writing()
    handler.setFormatter(JsonFormatter() if format == LogFormat.JSON.value else TextFormatter())
    logging.basicConfig(handlers=[handler])
    logging.captureWarnings(True)
    logging.getLogger(ROOT).setLevel(level.upper())
