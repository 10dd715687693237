"""TensorFlow in the caller's own process: the cost for a worker that has its own session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness.timed import Timed
from benchmarks.workloads import Workload

ONE_THREAD = 1
"""Intra-op threads of the bare callable where nothing else is said: what the broker gives to a light model."""
DEFAULT_THREADS = 0
"""TensorFlow's default for intra-op threads: one for each core."""


class LoadedSession(NamedTuple):
    """A SavedModel with one input and one output in a Session."""

    session: Any
    feed: str
    fetch: str


@contextmanager
def session_run(workload: Workload, path: str, threads: int = DEFAULT_THREADS) -> Iterator[Timed]:
    """`Session.run(out, {in: x})`, as its users write it."""
    yield Timed(runner(path, threads))


def runner(path: str, threads: int = DEFAULT_THREADS) -> Callable[[np.ndarray], np.ndarray]:
    """`Session.run(out, {in: x})` as a function of one array."""
    session, feed, fetch = load(path, threads)
    run = session.run
    return lambda x: run(fetch, {feed: x})


@contextmanager
def make_callable(workload: Workload, path: str) -> Iterator[Timed]:
    """`Session.make_callable`, TensorFlow's public way to a faster call, with its defaults."""
    session, feed, fetch = load(path)
    call = session.make_callable(fetch, [feed])
    yield Timed(call)


@contextmanager
def bare_callable(workload: Workload, path: str, threads: int = ONE_THREAD) -> Iterator[Timed]:
    """The quickest call that TensorFlow's Python has: on the caller's thread."""
    yield Timed(bare(path, threads))


def bare(path: str, threads: int = ONE_THREAD) -> Callable[[np.ndarray], np.ndarray]:
    """The bare callable as a function of one array."""
    from tensorflow.core.protobuf import config_pb2

    session, feed, fetch = load(path, threads)
    options = config_pb2.CallableOptions(feed=[feed], fetch=[fetch])
    options.run_options.inter_op_thread_pool = -1
    made = session._make_callable_from_options(options)  # noqa: SLF001 - no public way gives these options

    def call(x: np.ndarray) -> np.ndarray:
        answer: np.ndarray = made(x)[0]
        return answer

    return call


def making(fast: bool) -> Callable[[str, int], Callable[[np.ndarray], np.ndarray]]:
    """`bare` if `fast`, else `runner`: both make a function of one array from a path and a number of threads."""
    return bare if fast else runner


def load(path: str, intra_op_threads: int = DEFAULT_THREADS) -> LoadedSession:
    """Imports TensorFlow."""
    import tensorflow as tf

    v1 = tf.compat.v1
    config = v1.ConfigProto(
        intra_op_parallelism_threads=intra_op_threads, use_per_session_threads=bool(intra_op_threads)
    )
    session = v1.Session(graph=tf.Graph(), config=config)
    with session.graph.as_default():
        meta_graph = v1.saved_model.load(session, ["serve"], path)
    signature = meta_graph.signature_def["serving_default"]
    (feed,) = (info.name for info in signature.inputs.values())
    (fetch,) = (info.name for info in signature.outputs.values())
    return LoadedSession(session, feed, fetch)
