"""Checks the monotonic clock, in which workers pass deadlines to the broker: fast to read, and the same in all
processes."""

from __future__ import annotations

from pathlib import Path

from broker.doctor.finding import Finding, ok, problem, warning
from broker.doctor.target import Target
from broker.host.processes import link

_QUICK = ("tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page")
_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")


def judge(source: str, apart: list[int]) -> Finding:
    """Judge the kernel's clock source, and the workers (`apart`) whose clock differs from the broker's."""
    check = "clock"
    if apart:
        return problem(
            check,
            f"workers {', '.join(map(str, apart))} are in another time namespace: their deadlines mean "
            "another time",
            "run broker and workers in one time namespace (no unshare --time for one of them)",
        )
    if source and source not in _QUICK:
        return warning(
            check,
            f"the clock source is {source}, which takes a microsecond or more to read, and each call reads "
            "it several times",
            f"echo tsc > {_SOURCE}, if available_clocksource in that folder lists it",
        )
    return ok(check, source or "the clock source cannot be read")


def check(target: Target) -> Finding:
    source = _SOURCE.read_text().strip() if _SOURCE.exists() else ""
    ours = link(target.broker_pid or "self", "ns/time")
    spaces = {pid: link(pid, "ns/time") for pid in target.worker_pids}
    return judge(
        source, [pid for pid, space in spaces.items() if None not in (space, ours) and space != ours]
    )
