"""Finds workers, and processes that forked them, that have loaded TensorFlow, too."""

from __future__ import annotations

import re
from collections.abc import Iterable

from broker.counters.counted import counted
from broker.doctor.finding import Finding, ok, warning
from broker.doctor.target import Target
from broker.host.processes import ancestors, name_of, read

_LIBRARY = re.compile(
    r"^([0-9a-f]+)-.*/((?:libtensorflow[^/\n]*|_pywrap_tensorflow_internal)\.so)", re.MULTILINE
)
_NAMED = 5


def libraries(maps: str) -> set[tuple[str, str]]:
    """TensorFlow's libraries in /proc/PID/maps, with their addresses: equal addresses in parent and child mean that the
    child inherited them by fork; a process that loaded them itself has other addresses."""
    return set(_LIBRARY.findall(maps))


def judge(workers: list[int], parents: list[int], hidden: int, looked_at: int) -> Finding:
    """Judge the workers, and parents of workers, that have TensorFlow. `hidden` workers could not be inspected,
    `looked_at` were."""
    check = "TensorFlow in workers"
    if parents:
        return warning(
            check,
            f"the parent {_named(parents)} has loaded it, and its workers inherit it: a session made there "
            "hangs in them",
            "import only worker_client in code that the server preloads; keep TensorFlow in the broker",
        )
    if workers:
        return warning(
            check,
            f"loaded by {_named(workers)}: which costs each some 500 MB and seconds of start-up, without use",
            "find the import: python -X importtime -c 'import your_app' 2>&1 | grep tensorflow",
        )
    if hidden:
        return warning(
            check,
            f"{hidden} of {counted(hidden + looked_at, 'worker')} cannot be inspected",
            "run onesession doctor as root or their user",
        )
    return ok(
        check,
        f"none of {counted(looked_at, 'worker')} nor their parents has it"
        if looked_at
        else "no worker is attached",
    )


def check(target: Target) -> Finding:
    workers, parents, hidden, looked_at = [], set(), 0, 0
    for pid in target.worker_pids:
        maps = read(pid, "maps")
        if maps is None:
            hidden += 1
            continue
        looked_at += 1
        if loaded := libraries(maps):
            workers.append(pid)
            parents |= set(_parents_with(loaded, pid, target.broker_pid))
    return judge(workers, sorted(parents), hidden, looked_at)


def _parents_with(loaded: set[tuple[str, str]], pid: int, broker: int | None) -> Iterable[int]:
    """The parents of a worker that have loaded it; not the broker, which may fork its own workers."""
    for parent in ancestors(pid):
        if parent == broker:
            return
        if libraries(read(parent, "maps") or "") & loaded:
            yield parent


def _named(pids: list[int]) -> str:
    some = ", ".join(f"{pid} ({name_of(pid)})" for pid in pids[:_NAMED])
    return some if len(pids) <= _NAMED else f"{some} and {len(pids) - _NAMED} more"
