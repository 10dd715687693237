"""The CPU time that a control group allows, against the processors that the broker's threads may run on."""

from __future__ import annotations

import math

from broker.doctor.finding import Finding, ok, warning
from broker.doctor.target import Target
from broker.host.processors import Quota, tightest_quota, usable


def judge(cores: int, quota: Quota | None, throttled_s: float = 0.0) -> Finding:
    """`cores`: how many the process may run on. `throttled_s`: for how long it stood still in the last minute."""
    check = "CPU quota"
    if quota is None:
        return ok(check, "none")
    found = f"{quota.file} allows {quota.processors:.3g} of the {cores} processors that the process could use"
    if quota.processors >= cores:
        return ok(check, found)
    if throttled_s:
        found += f", and in the last minute they stood still for {throttled_s:.2g} s altogether"
    return warning(
        check,
        f"{found}: when its time is used up, all its threads stand still until the next period",
        f"raise it (docker run --cpus={cores}, CPUQuota={cores}00% in the unit, limits.cpu in Kubernetes), or bind "
        f"broker and workers to {math.ceil(quota.processors)} (docker run --cpuset-cpus, CPUAffinity= in the unit)",
    )


def check(target: Target) -> Finding:
    """Of the broker; of this process where no broker is to be seen."""
    pid = target.broker_pid
    waiting = (target.status or {}).get("waiting", {})  # which brokers before this version do not tell
    return judge(len(usable(pid or 0)), tightest_quota(pid), waiting.get("throttled_seconds", 0.0))
