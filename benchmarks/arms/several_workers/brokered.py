"""Workers that share a broker, which the arm starts and stops: its CPU time is the arm's."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.arms.one_worker import broker_call
from benchmarks.harness.timed import ArmWorker, ArmWorkers
from benchmarks.workloads import Workload
from broker import Broker
from broker.control_plane.query import ask


@contextmanager
def brokered(
    workload: Workload,
    workers: int,
    directory: str,
    models: dict[str, Any],
    model: str,
    wait: str = "adaptive",
    tune: str = "off",
) -> Iterator[ArmWorkers]:
    """`predict(x)` on `model` in each worker; broker and workers wait as `wait` says.

    What `models` leaves open is TensorFlow's or the broker's default, or what was measured if `tune` is "remembered".
    """
    with Broker(models=models, name=address_in(directory), wait=wait, tune=tune) as broker:
        worker = ArmWorker(partial(broker_call.predict, workload, broker.address, model, wait), workload)
        yield arm_workers([worker] * workers, broker.address, model)


def arm_workers(workers: list[ArmWorker], address: str, model: str) -> ArmWorkers:
    """The workers with the batches of `model`, and the settings that the broker chose for it."""
    return ArmWorkers(workers, batches(address, model), {"models": settings(address)})


def address_in(directory: str) -> str:
    return str(Path(directory, f"{os.getpid()}.sock"))


def batches(address: str, model: str) -> Callable[[], Mapping[int, int]]:
    """A function that asks the broker for the model's runs so far, by their rows."""

    def count() -> Mapping[int, int]:
        total: Counter[int] = Counter()
        for counters in ask(address, "status")["status"]["models"][model].values():
            total.update({int(rows): runs for rows, runs in counters["batch_rows"].items()})
        return total

    return count


def settings(address: str) -> dict[str, Any]:
    """What the broker reports about its models, except their signatures."""
    models = ask(address, "models")["models"]
    return {
        name: {key: value for key, value in model.items() if key != "signatures"}
        for name, model in models.items()
    }
