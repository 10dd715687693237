"""Decides from outside, by the run record, whether a broker's process makes progress. Knows no process and reads no
clock.

The process watches its own runs (`server/watchdog.py`). Its parent is the last resort: while code holds the
interpreter's lock, no thread of the process runs, so the process cannot notice.
"""

from __future__ import annotations

from broker.counters.run_record import INTAKE_LINE, RunRecord

OVERDUE_SECONDS = 2.0
"""The time in which a process can end a run past its limit, or itself, before its parent ends it."""
SILENT_SECONDS = 30.0
"""How long the beat may be missing although no model runs: an import can hold the interpreter's lock."""
CHECK_SECONDS = 0.5
"""Maximum seconds between two checks by the parent."""
_SHORTEST_CHECK_SECONDS = 0.02
BEAT_SECONDS = 1.0
"""Maximum seconds between two beats of the process."""
QUIET_SECONDS = 1.5
"""After this time without a beat, the process is assumed not to watch its own runs."""


def why_replace(record: RunRecord, now_ns: int) -> str:
    """Why the process must be replaced; empty if it need not be."""
    runs = record.under_way(now_ns)
    silent = record.seconds_since_beat(now_ns)
    patience = OVERDUE_SECONDS if silent < QUIET_SECONDS else 0
    for run in runs:
        if run.overdue_s > patience:
            return (
                f"a run of model {run.model!r} has not ended for {run.seconds:.1f} s "
                f"(max_run_seconds is {run.limit_s:g})"
            )
    if silent > SILENT_SECONDS:
        return "" if runs else f"it has not shown that it is alive for {silent:.0f} s"
    stuck = record.seconds_without_answer(now_ns)
    if any(run.line == INTAKE_LINE for run in runs):
        stuck.pop("intake", None)  # the run's limit decides about the intake
    for thread, seconds in stuck.items():
        if seconds > SILENT_SECONDS:
            return f"its {thread} thread has made no progress for {seconds:.0f} s"
    return ""


def seconds_to_next_poll(record: RunRecord, now_ns: int) -> float:
    """Seconds until the next check: by then a run could be past its limit and not watched by the process."""
    silent = record.seconds_since_beat(now_ns)
    waits = [
        max(run.limit_s - run.seconds, QUIET_SECONDS - silent)
        for run in record.under_way(now_ns)
        if run.limit_s
    ]
    soonest = min((wait for wait in waits if wait > 0), default=CHECK_SECONDS)
    return min(CHECK_SECONDS, soonest + _SHORTEST_CHECK_SECONDS)


def stuck(record: RunRecord, now_ns: int, seconds: float) -> list[str]:
    """What has made no progress for `seconds`, for systemd, which may restart the whole service."""
    if record.seconds_since_beat(now_ns) > seconds + 2 * BEAT_SECONDS:
        return ["interpreter"]
    return [name for name, since in record.seconds_without_answer(now_ns).items() if since > seconds]
