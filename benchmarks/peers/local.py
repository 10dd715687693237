"""The peers that need nothing but TensorFlow and the standard library, or a library of ours: arms that there are."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.other_system import OtherSystem, SystemSetting, Way
from benchmarks.throughput.contenders import KINDS, ModelPlace

_WITH_MODEL = ("mlp", "mobilenet")


def _kind(name: str, label: str, workloads: tuple[str, ...] = _WITH_MODEL, **more: Any) -> Way:
    """One that `throughput` measures too. `more` are options beside its own."""
    kind = KINDS[name]

    def options(setting: SystemSetting, threads: int) -> dict[str, Any]:
        own = kind.options(ModelPlace(setting.model, setting.directory), threads)
        return {**own, **more}

    return Way(name, label, f"benchmarks.arms.several_workers.{kind.factory}", options, workloads)


def _in_each(factory: str, label: str, workloads: tuple[str, ...] = _WITH_MODEL) -> Way:
    def options(setting: SystemSetting, threads: int) -> dict[str, Any]:
        return {
            "factory": f"benchmarks.arms.one_worker.{factory}",
            "options": {"path": setting.model, "threads": threads},
        }

    return Way(
        factory.rpartition(":")[2], label, "benchmarks.arms.several_workers.each:each", options, workloads
    )


def _in_threads(factory: str, label: str) -> Way:
    def options(setting: SystemSetting, threads: int) -> dict[str, Any]:
        return {"path": setting.model, "threads": threads}

    return Way(factory, label, f"benchmarks.arms.several_workers.in_threads:{factory}", options, _WITH_MODEL)


_ANY = (*_WITH_MODEL, "head")
_POOL_NOTE = (
    "Pool and Queue have a session in each process, all of whose answers go back to one producer, which keeps several "
    "requests in flight: their p50 is what one of these takes."
)

LOCAL: tuple[OtherSystem, ...] = (
    OtherSystem(
        "in-process",
        "a session in each worker",
        (
            _in_each("session:session_run", "in process: Session.run"),
            _in_each("session:bare_callable", "in process: bare callable"),
            _in_each("eager:signature", "in process: signature"),
            _in_each("eager:keras_call", "in process: Keras model(x)", ("mlp",)),
        ),
    ),
    OtherSystem(
        "threads",
        "sessions in the threads of one process",
        (
            _in_threads("session_passed", "threads: one session, passed on"),
            _in_threads("singleton", "threads: one session, a singleton"),
            _in_threads("session_per_thread", "threads: graph and session in each"),
        ),
        notes=("Their workers are threads of one process, which call Session.run.",),
    ),
    OtherSystem(
        "multiprocessing",
        "multiprocessing",
        (
            _kind("pool_map", "Pool.map", bare=True),
            _kind("pool_apply_async", "Pool.apply_async", bare=True),
            _kind("queues", "Queue, there and back", bare=True),
        ),
        notes=(_POOL_NOTE,),
    ),
    OtherSystem("pipe", "multiprocessing.Pipe", (_kind("pipes", "Pipe + pickle", _ANY),)),
    OtherSystem(
        "unix-socket",
        "raw Unix sockets",
        (
            _kind("unix_sockets", "raw Unix socket", _ANY),
            _kind("unix_sockets_batching", "raw Unix socket, batches", _ANY),
        ),
    ),
    OtherSystem("zmq", "ZeroMQ", (_kind("zeromq", "ZeroMQ", _ANY),), imports=("zmq",)),
)
