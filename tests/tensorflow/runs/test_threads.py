"""How many threads an op of a model may use: settled for each session, whatever came first."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from benchmarks.models.mlp import mlp_answer
from broker.models.sources import session
from broker.models.sources.session import ALL_CORES, ONE_THREAD
from broker.models.spec import ModelSpec
from broker.models.warmup import Cost


def os_threads() -> set[str]:
    """The threads of this process as the kernel counts them, those of TensorFlow's pools included."""
    return {path.name for path in Path("/proc/self/task").iterdir()}


def started_since(before: set[str]) -> int:
    """How many threads there are that were not there before. Those of earlier tests may end at any time."""
    return len(os_threads() - before)


def test_each_session_has_the_intra_op_threads_it_asked_for(load):
    """The first session of a process does not fix the threads of later ones, as it does in plain TensorFlow."""
    load("mlp", intra_op_threads=1)  # the first session also starts what all share
    before = os_threads()
    for threads in (3, 1, 2):
        load("mlp", intra_op_threads=threads)
        assert started_since(before) == threads
        before = os_threads()


def test_in_the_pool_a_session_has_one_of_its_own(load):
    """With `caller_thread` False a model gets inter-op threads beside its intra-op ones, and answers the same."""
    load("mlp", intra_op_threads=1)
    before = os_threads()
    pooled = load("mlp", intra_op_threads=2, caller_thread=False)
    assert started_since(before) > 2
    x = np.ones((3, 128), np.float32)
    runs = [
        pooled.callable("serving_default"),
        *(pooled.callable_on("serving_default", caller_thread=here) for here in (True, False)),
    ]
    for run in runs:
        np.testing.assert_allclose(run(x)[0], mlp_answer(x), atol=1e-6)


def test_a_model_that_is_dropped_gives_its_threads_back(load, mlp_path):
    """Closed and unreferenced, a model leaves no pool behind, and so nothing else of its session."""
    load("mlp")
    before = os_threads()
    model = session.load(ModelSpec("mlp", str(mlp_path), intra_op_threads=5))
    assert started_since(before) == 5
    model.close()
    del model
    gc.collect()
    assert not started_since(before)


@pytest.mark.parametrize(
    ("weights", "cost", "opened"),
    [
        (1000, Cost(10.0, light=True), [ONE_THREAD]),
        (1000, Cost(9000.0, light=False), [ONE_THREAD, ALL_CORES]),
        (10**9, Cost(9000.0, light=False), [ALL_CORES]),
        (10**9, Cost(10.0, light=True), [ALL_CORES, ONE_THREAD]),
        (1000, Cost(None, light=False), [ONE_THREAD]),
        (10**9, Cost(None, light=False), [ALL_CORES]),
    ],
    ids=[
        "small and light",
        "small but heavy",
        "large and heavy",
        "large but light",
        "small, unmeasured",
        "large, unmeasured",
    ],
)
def test_light_models_get_one_thread_and_heavy_ones_all_cores(
    saved_models, monkeypatch, weights, cost, opened
):
    """The weights give the first guess, the measurement decides, and a wrong guess is opened once more."""
    seen: list[int] = []
    really_open = session._open

    def open_and_note(spec, directory, version, threads):
        seen.append(threads)
        return really_open(spec, directory, version, threads)

    monkeypatch.setattr(session, "weight_bytes", lambda directory: weights)
    monkeypatch.setattr(session, "_probe", lambda model: cost)
    monkeypatch.setattr(session, "_open", open_and_note)
    model = session.load(ModelSpec("mlp", str(saved_models["mlp"])))
    try:
        assert seen == opened
        assert model.intra_op_threads == opened[-1]
    finally:
        model.close()


def test_a_setting_is_obeyed_and_nothing_is_measured(saved_models, monkeypatch):
    """A model with `intra_op_threads` gets that many, and nothing is measured."""
    monkeypatch.setattr(session, "_probe", lambda model: pytest.fail("measured although told"))
    model = session.load(ModelSpec("mlp", str(saved_models["mlp"]), intra_op_threads=4))
    try:
        assert model.intra_op_threads == 4
    finally:
        model.close()


def test_the_probe_measures_on_a_thread_of_its_own(load):
    """A probe that cannot run tells so instead of failing the load."""
    assert session._probe(load("mlp")).p50_us is not None
    assert session._probe(load("shapes")).note == "not measured: the rank of input x is unknown"
