"""Finds runs of models that do not end, what else waits for them, and what ends them."""

from __future__ import annotations

from typing import Any

from broker.doctor.finding import Finding, ok, problem, warning
from broker.doctor.target import Target


def judge(runs: list[dict[str, Any]]) -> Finding:
    """Judge the broker's `long_runs`."""
    check = "runs"
    if not runs:
        return ok(check, "none has been under way for long")
    found = "; ".join(run["text"] for run in runs)
    if any(run["light"] for run in runs):
        return problem(
            check,
            f"{found}: the calls of all models wait",
            "wait for max_run_seconds, which ends it, and lower that of this model if its runs are short; "
            "see what "
            "the model does, as with py-spy dump",
        )
    return warning(
        check,
        found,
        "max_run_seconds of the model ends it; lower that if its runs are short, or see what it does "
        "(py-spy dump)",
    )


def check(target: Target) -> Finding:
    return judge(target.status.get("long_runs", []) if target.status else [])
