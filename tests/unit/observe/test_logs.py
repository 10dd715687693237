"""One line for each event."""

from __future__ import annotations

import json
import logging
import os
import sys

import pytest

from broker.config.logs import JsonFormatter, TextFormatter


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    logger = logging.getLogger("onesession.requests")
    return logger.makeRecord(logger.name, logging.WARNING, __file__, 1, message, args, None, extra=extra)


def test_text():
    """Time, process, level, subject and message, whatever line ends that has."""
    line = TextFormatter().format(record("failed: %s", "one\ntwo"))
    assert line.endswith(f" broker[{os.getpid()}] WARNING requests: failed: one | two")
    assert "\n" not in line


def test_json():
    """An object on one line, with all that the event was told."""
    line = JsonFormatter().format(record("failed: %s", "one\ntwo", model="digits", worker=7))
    assert "\n" not in line
    event = json.loads(line)
    assert event.pop("time").endswith("Z")
    assert event == {
        "level": "warning",
        "logger": "onesession.requests",
        "pid": os.getpid(),
        "message": "failed: one\ntwo",
        "model": "digits",
        "worker": 7,
    }


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes"])
def test_json_of_anything(value: object):
    """What JSON does not know is written as text; no event is lost for it."""
    assert json.loads(JsonFormatter().format(record("x", what=value)))["what"] == str(value)


def test_json_with_a_traceback():
    """On the same line."""
    try:
        raise ValueError("why")
    except ValueError:
        logger = logging.getLogger("onesession.engine")
        failed = logger.makeRecord(logger.name, logging.ERROR, __file__, 1, "oh", (), sys.exc_info())
    line = JsonFormatter().format(failed)
    assert "\n" not in line
    assert "ValueError: why" in json.loads(line)["exception"]


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_no_control_characters(formatter: logging.Formatter):
    """What a terminal would obey, or what turns a line round, is written out: in messages and in tracebacks."""
    bad = "\x1b[2J\x07\x9b31m\x7f\u202e\u2066 name"
    try:
        raise ValueError(bad)
    except ValueError:
        logger = logging.getLogger("onesession.engine")
        failed = logger.makeRecord(logger.name, logging.ERROR, __file__, 1, "oh %s", (bad,), sys.exc_info())
    for line in (formatter.format(record("no model %s", bad)), formatter.format(failed)):
        assert not set("\x1b\x07\x9b\x7f\u202e\u2066") & set(line)
        assert "\\u001b[2J" in line
