"""Logs regularly which model a start loads, and limits the time of the start, for a process that no parent watches.

While a loader holds the interpreter's lock, no thread can log anything. If the process is the broker's own, a timer in
C then ends it, and writes a line for each frame of its threads.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import threading
from collections.abc import Callable, Iterator

from broker.counters.run_record import RunRecord
from broker.models.lifecycle.start import Start
from broker.models.tf.import_logs import HARMLESS_THREAD, let_through
from worker_client.system.clock import monotonic, monotonic_ns

_log = logging.getLogger("onesession.start")

_CHECK_SECONDS = 0.5
_GRACE_SECONDS = 5.0  # in which the thread, or our parent, can end it and log why


@contextlib.contextmanager
def reported_loads(
    record: RunRecord, limit_s: float, on_late: Callable[[str], None] | None
) -> Iterator[None]:
    """Watch the loading of models in the block. Another thread calls `on_late`, which ends the process, with the
    reason; without it the start continues, because this process belongs to another program."""
    over = threading.Event()
    start = Start(monotonic(), limit_s if on_late is not None else 0.0)
    thread = threading.Thread(
        target=_watch, args=(over, record, start, on_late), name=HARMLESS_THREAD, daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def ended_in_any_case(limit_s: float) -> Iterator[None]:
    """Limit the time of the block even if C code holds the interpreter's lock and our parent is gone; 0: no limit."""
    if not limit_s:
        yield
        return
    stderr = os.dup(2)  # descriptor 2 may be redirected at that moment
    faulthandler.dump_traceback_later(limit_s + _GRACE_SECONDS, exit=True, file=stderr)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        os.close(stderr)


def _watch(
    over: threading.Event, record: RunRecord, start: Start, on_late: Callable[[str], None] | None
) -> None:
    while not over.wait(_CHECK_SECONDS):
        loading = record.loading(monotonic_ns())
        if news := start.news(monotonic(), *loading):
            let_through()
            _log.log(start.level(*loading), "%s", news)
        if on_late is not None and (why := start.why_end(monotonic(), *loading)):
            let_through()
            _log.critical("%s", why)
            on_late(why)
            return
