"""gunicorn with one of the apps as an arm: its only worker makes the load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from benchmarks.harness.host.cpu import descendants, wait_until_quiet
from benchmarks.harness.timed import ArmWorker, ArmWorkers, Flow
from benchmarks.http import load
from benchmarks.http.contenders import KINDS
from benchmarks.http.exchange import Address
from benchmarks.http.server import GunicornServer
from benchmarks.workloads import Workload


@contextmanager
def server_arm(
    workload: Workload, kind: str, workers: int, connections: int, directory: str, model: str, tune: str
) -> Iterator[ArmWorkers]:
    """The facts are of this start: seconds, milliseconds of each worker, MB."""
    environment = {
        "HTTP_MODEL": model,
        "BROKER_TUNE": tune,
        "TMPDIR": directory,  # where a dirty arbiter has its sockets and its pid file
        "XDG_RUNTIME_DIR": directory,
    }
    with GunicornServer(KINDS[kind], workload, workers, environment) as server:
        start_s = server.answer_first()
        server.warm_up()
        wait_until_quiet(descendants())
        facts: dict[str, Any] = {
            "start_s": start_s,
            "first_answers_ms": sorted(server.first_answers_ms.values()),
            **server.memory(),
            "warm_up_checked": server.checked,
        }
        yield ArmWorkers(
            [ArmWorker(partial(_load, server.address, workload, connections), workload)], facts=facts
        )


@contextmanager
def _load(address: Address, workload: Workload, connections: int) -> Iterator[Flow]:
    yield Flow(lambda: load.answers(address, workload.inputs, connections))
