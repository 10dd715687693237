"""gunicorn with one of the apps as an arm: its crew is one process that makes the load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from benchmarks.harness.cpu import descendants, wait_until_quiet
from benchmarks.harness.timed import Crew, Flow, Member
from benchmarks.http import load
from benchmarks.http.contenders import KINDS
from benchmarks.http.exchange import Address
from benchmarks.http.server import Server
from benchmarks.workloads import Workload


@contextmanager
def served(
    workload: Workload, kind: str, workers: int, connections: int, directory: str, model: str, tune: str
) -> Iterator[Crew]:
    """The facts are of this start: seconds, milliseconds of each worker, MB."""
    environment = {
        "HTTP_MODEL": model,
        "BROKER_TUNE": tune,
        "TMPDIR": directory,  # where a dirty arbiter has its sockets and its pid file
        "XDG_RUNTIME_DIR": directory,
    }
    with Server(KINDS[kind], workload, workers, environment) as server:
        start_s = server.answer_first()
        server.warm_up()
        wait_until_quiet(descendants())
        facts: dict[str, Any] = {
            "start_s": start_s,
            "first_answers_ms": sorted(server.first_answers_ms.values()),
            **server.memory(),
            "warm_up_checked": server.checked,
        }
        yield Crew([Member(partial(_load, server.address, workload, connections), workload)], facts=facts)


@contextmanager
def _load(address: Address, workload: Workload, connections: int) -> Iterator[Flow]:
    yield Flow(lambda: load.answers(address, workload.inputs, connections))
