"""Compares the CPU time that a control group allows with the processors that the broker's threads may run on."""

from __future__ import annotations

import math

from broker.doctor.finding import Finding, ok, warning
from broker.doctor.target import Target
from broker.host.processors import Quota, tightest_quota, usable


def judge(cores: int, quota: Quota | None, throttled_s: float = 0.0) -> Finding:
    """Judge the quota. `cores`: the number that the process may run on. `throttled_s`: how long it was throttled in the
    last minute."""
    check = "CPU quota"
    if quota is None:
        return ok(check, "none")
    found = f"{quota.file} allows {quota.processors:.3g} of the {cores} processors that the process could use"
    if quota.processors >= cores:
        return ok(check, found)
    if throttled_s:
        found += f", and in the last minute they were throttled for {throttled_s:.2g} s in total"
    return warning(
        check,
        f"{found}: when the time is used up, all threads stand still until the next period",
        f"raise it (docker run --cpus={cores}, CPUQuota={cores}00% in the unit, limits.cpu in Kubernetes), "
        "or bind "
        f"broker and workers to {math.ceil(quota.processors)} (docker run --cpuset-cpus, CPUAffinity= in "
        "the unit)",
    )


def check(target: Target) -> Finding:
    """Check the broker's quota, or that of this process if no broker is visible."""
    pid = target.broker_pid
    waiting = (target.status or {}).get("waiting", {})  # missing in the status of older brokers
    return judge(len(usable(pid or 0)), tightest_quota(pid), waiting.get("throttled_seconds", 0.0))
