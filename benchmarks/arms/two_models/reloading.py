"""A light model's only worker, paced, while a heavy model is loaded over and over: here, or in a process beside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np

from benchmarks.arms.one_worker import broker_call
from benchmarks.arms.several_workers.brokered import address_in, arm_workers
from benchmarks.arms.two_models.neighbours import PAUSE_S
from benchmarks.harness.timed import ArmWorker, ArmWorkers, Timed
from benchmarks.workloads import Workload
from broker import Broker
from broker.control_plane.query import ask

_RELOAD_TIMEOUT_S = 60.0
_NOTHING = np.zeros(1, np.float32)


@contextmanager
def quiet(workload: Workload, directory: str, light: str, heavy: str) -> Iterator[ArmWorkers]:
    """Both models are served, and nothing is loaded."""
    with _broker(directory, light, heavy) as broker:
        yield arm_workers([_caller(workload, broker.address)], broker.address, "light")


@contextmanager
def next_versions(workload: Workload, directory: str, light: str, heavy: str) -> Iterator[ArmWorkers]:
    """Version 2 of the heavy model takes over from version 1, then 1 from 2, and so on without a pause."""
    with _broker(directory, light, heavy) as broker:
        reloads = ArmWorker(partial(_reload, broker.address), _silence(), counted=False)
        yield arm_workers([_caller(workload, broker.address), reloads], broker.address, "light")


@contextmanager
def loaded_elsewhere(workload: Workload, directory: str, light: str, heavy: str) -> Iterator[ArmWorkers]:
    """A process beside the broker loads and warms the heavy model over and over: what that costs on any account."""
    with _broker(directory, light, heavy) as broker:
        loads = ArmWorker(partial(_load, str(Path(heavy, "1"))), _silence(), counted=False)
        yield arm_workers([_caller(workload, broker.address), loads], broker.address, "light")


def two_versions(directory: Path, source: str) -> str:
    """A folder in which versions 1 and 2 are this model."""
    folder = directory / "heavy"
    folder.mkdir(exist_ok=True)
    for number in ("1", "2"):
        if not (folder / number).exists():
            os.symlink(source, folder / number)
    return str(folder)


def _broker(directory: str, light: str, heavy: str) -> Broker:
    """A broker with its own settings, which were measured before."""
    models = {"light": light, "heavy": {"source": heavy, "versions": [1]}}
    return Broker(models=models, name=address_in(directory), tune="remembered")


def _caller(workload: Workload, address: str) -> ArmWorker:
    return ArmWorker(partial(broker_call.predict, workload, address, "light"), workload, PAUSE_S)


def _silence() -> Workload:
    """For workers whose answer only says that they have done something."""
    return Workload("silence", [_NOTHING], [_NOTHING])


@contextmanager
def _reload(address: str) -> Iterator[Timed]:
    numbers = cycle((2, 1))

    def call(x: np.ndarray) -> np.ndarray:
        number = next(numbers)
        outcome = ask(address, "reload", _RELOAD_TIMEOUT_S, models=["heavy"], versions=number)["models"][
            "heavy"
        ]
        if outcome["loaded"] != [number] or outcome["failed"]:
            raise RuntimeError(f"version {number} was not loaded: {outcome}")
        return x

    yield Timed(call)


@contextmanager
def _load(source: str) -> Iterator[Timed]:
    from broker.models.lifecycle import loading
    from broker.models.lifecycle.version import Version
    from broker.models.spec import ModelSpec

    def call(x: np.ndarray) -> np.ndarray:
        version = Version(1, ModelSpec("heavy", source))
        loading.load(version)
        loading.warm_up(version, lambda: 1)
        assert version.model is not None
        version.model.close()
        return x

    yield Timed(call)
