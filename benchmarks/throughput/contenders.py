"""The ways for several workers to have answers of a small model, as arms: by kind, threads and number of workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.arms.one_worker.session import DEFAULT_THREADS, ONE_THREAD
from benchmarks.harness import modules
from benchmarks.harness.arm import Arm
from broker.host.processors import cores

THREADS = {"one": ONE_THREAD, "default": DEFAULT_THREADS}
"""Intra-op threads of every session: what is best for a light model, and TensorFlow's default."""
OWN = "own"
"""Instead of these: the setting that the broker chose by measuring. Only the broker can."""


@dataclass(frozen=True)
class ModelPlace:
    """The paths of the model and of the run's files."""

    model: str
    directory: str


@dataclass(frozen=True)
class Contender:
    """One way to serve them. `options` makes the options of `factory` from the place and the intra-op threads.

    `threads` is the setting that users have: TensorFlow's default where each worker has a session. `variants` are all
    the settings that are measured where there is time.
    """

    label: str
    factory: str
    options: Callable[[ModelPlace, int], dict[str, Any]]
    threads: str = "one"
    variants: tuple[str, ...] = tuple(THREADS)


def arm(kind: str, threads: str, workers: int, place: ModelPlace) -> Arm:
    chosen = KINDS[kind]
    options = {"workers": workers, **chosen.options(place, THREADS.get(threads, DEFAULT_THREADS))}
    return Arm(
        name(kind, threads, workers),
        chosen.label,
        f"benchmarks.arms.several_workers.{chosen.factory}",
        "mlp",
        options,
        facts={"arm": kind, "workers": workers, "threads": threads},
    )


def name(kind: str, threads: str, workers: int) -> str:
    return f"{kind}-{threads}-{workers}"


def missing(kind: str) -> str | None:
    """Why this kind cannot run here, if so."""
    return modules.missing("zmq", "pyzmq") if kind == "zeromq" else None


def _with_model(place: ModelPlace, threads: int) -> dict[str, Any]:
    return {"path": place.model, "threads": threads}


def _in_each(factory: str) -> Callable[[ModelPlace, int], dict[str, Any]]:
    def options(place: ModelPlace, threads: int) -> dict[str, Any]:
        return {
            "factory": f"benchmarks.arms.one_worker.session:{factory}",
            "options": _with_model(place, threads),
        }

    return options


def _sockets(place: ModelPlace, threads: int) -> dict[str, Any]:
    return {**_with_model(place, threads), "batching": False}


def _batching_sockets(place: ModelPlace, threads: int) -> dict[str, Any]:
    return {**_with_model(place, threads), "batching": True}


def _zeromq(place: ModelPlace, threads: int) -> dict[str, Any]:
    return {**_with_model(place, threads), "directory": place.directory}


def _broker(place: ModelPlace, threads: int) -> dict[str, Any]:
    """A broker whose number of threads is given. TensorFlow's default is all cores."""
    model = {"source": place.model, "intra_op_threads": threads or cores()}
    return {"directory": place.directory, "models": {"mlp": model}, "model": "mlp"}


def _broker_own(place: ModelPlace, _: int) -> dict[str, Any]:
    model = {"source": place.model}
    return {"directory": place.directory, "models": {"mlp": model}, "model": "mlp", "tune": "remembered"}


KINDS = {
    "broker_own": Contender("broker, its own settings", "brokered:brokered", _broker_own, OWN, (OWN,)),
    "broker": Contender("broker", "brokered:brokered", _broker),
    "session_run": Contender("in process: Session.run", "each:each", _in_each("session_run"), "default"),
    "bare_callable": Contender("in process: bare callable", "each:each", _in_each("bare_callable")),
    "unix_sockets": Contender("raw Unix sockets", "unix_sockets:unix_sockets", _sockets),
    "unix_sockets_batching": Contender(
        "raw Unix sockets, batches", "unix_sockets:unix_sockets", _batching_sockets
    ),
    "zeromq": Contender("ZeroMQ", "zeromq:zeromq", _zeromq),
    "pipes": Contender("Pipe + pickle", "pipes:pipes", _with_model),
    "pool_map": Contender("Pool.map, own sessions", "pools:pool_map", _with_model, "default"),
    "pool_apply_async": Contender(
        "Pool.apply_async, own sessions", "pools:pool_apply_async", _with_model, "default"
    ),
    "queues": Contender("Queue pipeline, own sessions", "queues:queues", _with_model, "default"),
}
