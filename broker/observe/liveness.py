"""Whether a broker's process makes progress, judged from outside by its run record. Knows no process and no clock.

The process sees to its own runs (`server/watch.py`). Its parent is the last resort, for what the process cannot see
to: code that holds the interpreter's lock lets no thread of it do anything, so nothing in it can notice.
"""

from __future__ import annotations

from broker.counters.run_record import INTAKE_LINE, RunRecord

OVERDUE_SECONDS = 2.0
"""What a process has to end a run past its limit, or itself, before its parent does it."""
SILENT_SECONDS = 30.0
"""For so long it may show no sign of life though it runs no model: an import can hold the interpreter's lock."""
CHECK_SECONDS = 0.5
"""How often a parent looks, at least."""
_SHORTEST_CHECK_SECONDS = 0.02
BEAT_SECONDS = 1.0
"""How often a process gives a sign of life, at least."""
QUIET_SECONDS = 1.5
"""Of a process that has given none for so long nobody in it sees to its runs."""


def why_replace(record: RunRecord, now_ns: int) -> str:
    """Why the process must be replaced; empty if it need not be."""
    runs = record.under_way(now_ns)
    silent = record.seconds_since_beat(now_ns)
    patience = OVERDUE_SECONDS if silent < QUIET_SECONDS else 0
    for run in runs:
        if run.overdue_s > patience:
            return (
                f"a run of model {run.model!r} has had no end for {run.seconds:.1f} s "
                f"(max_run_seconds is {run.limit_s:g})"
            )
    if silent > SILENT_SECONDS:
        return "" if runs else f"it has given no sign of life for {silent:.0f} s"
    stuck = record.seconds_without_answer(now_ns)
    if any(run.line == INTAKE_LINE for run in runs):
        stuck.pop("intake", None)  # that is for the run's limit to say
    for thread, seconds in stuck.items():
        if seconds > SILENT_SECONDS:
            return f"its {thread} thread has not gone round for {seconds:.0f} s"
    return ""


def seconds_to_next_poll(record: RunRecord, now_ns: int) -> float:
    """When to judge again: as soon as a run could be one that nobody in the process sees to."""
    silent = record.seconds_since_beat(now_ns)
    waits = [
        max(run.limit_s - run.seconds, QUIET_SECONDS - silent)
        for run in record.under_way(now_ns)
        if run.limit_s
    ]
    soonest = min((wait for wait in waits if wait > 0), default=CHECK_SECONDS)
    return min(CHECK_SECONDS, soonest + _SHORTEST_CHECK_SECONDS)


def stuck(record: RunRecord, now_ns: int, seconds: float) -> list[str]:
    """What has not gone round for so long, for who may restart all of it: systemd."""
    if record.seconds_since_beat(now_ns) > seconds + 2 * BEAT_SECONDS:
        return ["interpreter"]
    return [name for name, since in record.seconds_without_answer(now_ns).items() if since > seconds]
