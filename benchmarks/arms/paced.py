"""Any arm of several workers that do something else between their calls, as an app does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from benchmarks.harness.subject import resolve
from benchmarks.harness.timed import Crew
from benchmarks.workloads import Workload


@contextmanager
def paced(
    workload: Workload, factory: str, options: dict[str, Any], pause_s: float, work_s: float
) -> Iterator[Crew]:
    """The crew of `factory(workload, **options)`; each member pauses and computes before each call."""
    with resolve(factory)(workload, **options) as crew:
        members = [replace(member, pause_s=pause_s, work_s=work_s) for member in crew.members]
        yield replace(crew, members=members)
