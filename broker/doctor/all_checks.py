"""All checks in the order of the output: the address first, because the others use the broker that answers there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from broker.doctor.checks import (
    address,
    clock,
    container,
    cores,
    duplicates,
    leftovers,
    limits,
    logind,
    nodes,
    quota,
    runs,
    shared_memory,
    versions,
)
from broker.doctor.finding import Finding, warning
from broker.doctor.target import Target

CHECKS: dict[str, Callable[[Target], Finding]] = {
    "/dev/shm": shared_memory.check_room,
    "memory": shared_memory.check_memory,
    "semaphores": shared_memory.check_inodes,
    "doorbell": shared_memory.check_shared,
    "runs": runs.check,
    "node brokers": nodes.check,
    "left-over names": leftovers.check,
    "RemoveIPC": logind.check,
    "container": container.check,
    "ulimit -n": limits.check_descriptors,
    "vm.max_map_count": limits.check_mappings,
    "TensorFlow in workers": duplicates.check,
    "cores": cores.check,
    "CPU quota": quota.check,
    "clock": clock.check,
    "packages": versions.check_packages,
    "TensorFlow for the broker": versions.check_tensorflow,
    "tuning records": versions.check_records,
}


def examine(path: Path) -> list[Finding]:
    """The findings of all checks about the broker at this socket and its machine."""
    answer, target = address.check_broker(path)
    return [address.check_directory(path), answer, *(_made(name, target) for name in CHECKS)]


def _made(name: str, target: Target) -> Finding:
    try:
        return CHECKS[name](target)
    except (OSError, ValueError) as error:
        return warning(
            name, f"cannot be checked: {error}", "run onesession doctor as the broker's user or as root"
        )
