"""Checks the node brokers that workers have started, and the files that dead ones left."""

from __future__ import annotations

from broker.control_plane import node_brokers
from broker.doctor.finding import Finding, ok, warning
from broker.doctor.target import Target
from worker_client.ipc.node_files import directory


def check(_target: Target) -> Finding:
    check = "node brokers"
    found = node_brokers.found(directory())
    if not found:
        return ok(check, f"none in {directory()}")
    text = "\n".join(each.describe() for each in found)
    if all(each.alive for each in found):
        return ok(check, text)
    return warning(
        check,
        text,
        "see the log; onesession doctor --sweep removes the files, as does the next start at that address",
    )
