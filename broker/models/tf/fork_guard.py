"""Makes sessions in a forked child raise an error immediately, because their runs would never end.

TensorFlow's threads do not survive fork(): every session in the child would wait for them without end. A child that is
forked while sessions are open therefore gets a `Session.run` that raises.
"""

from __future__ import annotations

import os
from typing import Any

from worker_client.interpreter import fork
from worker_client.wire.errors import BrokerError


class ForkedSession(BrokerError, RuntimeError):
    """A session was used in a child of the process that holds it."""


def guard(session: Any, kind: type) -> None:
    """While this session lives, make sessions of class `kind` raise in children of this process."""
    fork.register(session, lambda _: _forbid(kind))


def _forbid(kind: type) -> None:
    parent = os.getppid()

    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise ForkedSession(
            f"this process was forked from pid {parent}, which holds TensorFlow sessions: TensorFlow's "
            "threads do "
            "not survive fork, and the run would never end. Ask the broker instead: "
            "worker_client.connect().model(NAME).predict(x), or .session(NAME).run(...)"
        )

    for name in ("run", "partial_run", "partial_run_setup", "make_callable", "_make_callable_from_options"):
        setattr(kind, name, refuse)
    setattr(getattr(kind, "_Callable"), "__call__", refuse)  # noqa: B009, B010 - not part of its public face
