"""The timeout of a call that does not set one itself.

The first of these that is set applies: `predict(timeout=)`, `client.model(timeout=)`, `connect(timeout=)`,
$BROKER_TIMEOUT. Otherwise it is the model's own `timeout` in the broker's settings, else 60 s. In these two cases it is
less than the time after which the surrounding server kills a worker that hangs, so that the caller sees
DeadlineExceeded first.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from worker_client.ipc import server_timeout as server
from worker_client.wire.errors import InvalidInput

VARIABLE = "BROKER_TIMEOUT"
DEFAULT_SECONDS = 60.0
_SHARE_OF_SERVERS = 0.9


def checked(timeout: Any) -> float:
    """Seconds, float("inf") for none. Raises InvalidInput."""
    try:
        seconds = float(timeout)
    except (TypeError, ValueError):
        seconds = -1.0
    if not seconds > 0:
        raise InvalidInput(f"a timeout must be a number of seconds above 0, got {timeout!r}")
    return seconds


def of_call(timeout: Any) -> float:
    """Seconds. The remaining time of an app's own deadline may be 0 or less. Raises InvalidInput."""
    try:
        seconds = float("nan") if isinstance(timeout, str) else float(timeout)
    except (TypeError, ValueError):
        seconds = float("nan")
    if seconds != seconds:
        raise InvalidInput(f"a call's timeout must be a number of seconds, got {timeout!r}")
    return seconds


def of_environment() -> float | None:
    """The value of $BROKER_TIMEOUT in seconds. Raises InvalidInput."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    try:
        return checked(text)
    except InvalidInput:
        raise InvalidInput(f"${VARIABLE} must be a number of seconds above 0, got {text!r}") from None


def implied(models_own: float | None) -> float:
    """The timeout if the app sets none: the model's own, limited by the server's, in seconds."""
    seconds = DEFAULT_SECONDS if models_own is None else models_own
    servers = server_seconds()
    return seconds if servers is None else min(seconds, _SHARE_OF_SERVERS * servers)


def server_seconds() -> float | None:
    """The timeout of the server in whose worker we run, from the environment or from the worker itself."""
    return server.known_timeout() or _gunicorn_seconds() or _uwsgi_seconds()


def _gunicorn_seconds() -> float | None:
    """gunicorn's `timeout`, for a gunicorn that is not configured to start the broker.

    gunicorn's arbiter sends SIGABRT to a worker that exceeds its timeout; the handler of that signal is a method of the
    worker object (gunicorn/workers/base.py, `init_signals`), which knows its configuration. The asgi worker has that
    handler in its loop; there a call that waits does not make the worker exceed its timeout.
    """
    worker = getattr(signal.getsignal(signal.SIGABRT), "__self__", None)
    if not any(base.__module__ == "gunicorn.workers.base" for base in type(worker).__mro__):
        return None
    return _positive(getattr(getattr(worker, "cfg", None), "timeout", None))


def _uwsgi_seconds() -> float | None:
    """uWSGI's `harakiri`. The module `uwsgi` exists only in uWSGI's workers, with the options as they were written."""
    return _positive(getattr(sys.modules.get("uwsgi"), "opt", {}).get("harakiri"))


def _positive(seconds: Any) -> float | None:
    try:
        number = float(seconds)
    except (TypeError, ValueError):
        return None
    return number if number > 0 else None
