"""Checks whether this is a container, and whether it shares the namespaces that broker and workers need."""

from __future__ import annotations

import os

from broker.doctor.finding import Finding, ok, warning
from broker.doctor.target import Target
from broker.host.processes import link, read

_MARKS = ("/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io")


def judge(inside: bool, answers: bool, visible: bool, same_ipc: bool) -> Finding:
    """Judge whether a broker `answers`, whether its process is `visible` from here, and whether it is in our IPC
    namespace."""
    check = "container"
    if answers and not visible:
        return warning(
            check,
            "the broker answers, but its process is not visible from here, so only half of the checks "
            "could run",
            "run onesession doctor where the broker runs, or share the pid namespace (docker run "
            "--pid=container:BROKER)",
        )
    if answers and not same_ipc:
        return warning(
            check,
            "the broker is in another IPC namespace; with Docker it then has another /dev/shm",
            "docker run --ipc=container:BROKER, or one /dev/shm as a volume in both (docs/operations.md)",
        )
    return ok(check, "in a container" if inside else "not in a container")


def check(target: Target) -> Finding:
    pid = target.broker_pid
    ours, theirs = link("self", "ns/ipc"), link(pid, "ns/ipc") if pid is not None else None
    inside = any(map(os.path.exists, _MARKS)) or "container" in _environment_of_init()
    return judge(inside, target.status is not None, pid is not None, None in (ours, theirs) or ours == theirs)


def _environment_of_init() -> str:
    """systemd-nspawn, podman and LXC tell init that it is in a container."""
    lines = (read(1, "environ") or "").split("\0")
    return " ".join(line for line in lines if line.startswith("container="))
