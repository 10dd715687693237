"""The node's brokers, started by engines' workers: which there are, and what dead ones have left."""

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
        "see the log; broker doctor --sweep removes what is left, as does the next start at that address",
    )
