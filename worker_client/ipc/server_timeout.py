"""The timeout of the surrounding server, which its parent process puts into the environment of the workers."""

from __future__ import annotations

import os

VARIABLE = "BROKER_SERVER_TIMEOUT"
"""Seconds after which the server gives up a worker that does not respond."""


def set_timeout(seconds: float) -> None:
    """Set the timeout for all processes that this one starts from now on; 0 if the server has none."""
    if seconds > 0:
        os.environ[VARIABLE] = f"{seconds:g}"
    else:
        os.environ.pop(VARIABLE, None)


def known_timeout() -> float | None:
    """The timeout in seconds; None if the parent process has not set one."""
    try:
        seconds = float(os.environ.get(VARIABLE, ""))
    except ValueError:
        return None
    return seconds if seconds > 0 else None
