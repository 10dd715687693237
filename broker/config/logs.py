"""What brokers write to stderr: one line for each event, for people or for programs.

text    2026-01-31 12:00:00,123 broker[4711] WARNING requests: a request of pid 4720 failed: ...
json    {"time": "2026-01-31T12:00:00.123Z", "level": "warning", "logger": "onesession.requests", "pid": 4711,
         "message": "a request of pid 4720 failed: ...", "model": "digits", "error": "ModelFailed", ...}

A library writes nothing of its own accord: an app that serves from its own process sees these records where it has
told `logging` to put them. What is logged, and at which level:

debug    a request was dropped because its worker has gone
info     loading, tuning, serving, stopping; requests that nobody waited for any more
warning  failed requests (of each model and class one line in ten seconds, with how many went without); peers that
         broke the rules; a restart that worked
error    a broker that died, a connection that could not be taken; critical: nothing goes on
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


# Of Unicode: controls, which terminals obey, ends of lines, and what turns the direction of a text.
_UNSEEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """With each character written out that a terminal would obey: names and messages come from workers and models."""
    return _UNSEEN.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


class TextFormatter(logging.Formatter):
    """One line for an event, but for a traceback, which follows."""

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
    """One object, on one line; what the event was told with `extra` stands beside the rest."""

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
    """Who logs does not wait for who reads (`log_writer.py`)."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self.writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.writer.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """At the process's end, by `logging` itself."""
        self.writer.flush()


_handler: WriterHandler | None = None


def _writing() -> WriterHandler:
    global _handler
    if _handler is None:
        _handler = WriterHandler(LogWriter(_STDERR))
    return _handler


def write_apart() -> None:
    """From now on a thread of its own writes what is logged: other threads have better things to do."""
    if _handler is not None:
        _handler.writer.start()


def log_to_stderr(level: str = LogLevel.INFO.value, format: str = LogFormat.TEXT.value) -> None:
    """Have everything of this level and above written, and warnings of other libraries. For processes that are ours."""
    handler = _writing()
    handler.setFormatter(JsonFormatter() if format == LogFormat.JSON.value else TextFormatter())
    logging.basicConfig(handlers=[handler])
    logging.captureWarnings(True)
    logging.getLogger(ROOT).setLevel(level.upper())
