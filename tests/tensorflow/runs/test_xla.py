"""Graphs that XLA compiles for each shape: never on the thread that takes all requests."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.data_plane.served_signature import served_signatures_of
from broker.host.processor_wait import ProcessorWait
from broker.models.lifecycle import repository
from broker.models.spec import ModelSpec


@pytest.fixture
def entries(saved_models: Mapping[str, Path]):
    """`entries(kind, **settings)`: {signature: entry} of a model that is loaded and warm."""
    loaded = []

    def load(kind: str, **settings: Any) -> dict[str, Any]:
        spec = ModelSpec(kind, str(saved_models[kind]), intra_op_threads=1, **settings)
        loaded.append(repository.load([spec]))
        return {entry.signature.name: entry for entry in loaded[-1].entries if entry is not None}

    yield load
    for each in loaded:
        each.close()


def test_a_signature_that_is_compiled_is_heavy_and_stays_so(entries, caplog):
    """jit_compile two functions below a signature is found; the note and the log name what helps."""
    with caplog.at_level(logging.WARNING, "onesession.models"):
        found = entries("compiled")
    entry = found["serving_default"]
    assert not entry.cost.light
    assert "XLA compiles it" in entry.cost.note
    assert "allowed_batch_sizes" in entry.cost.note
    assert "signature 'serving_default' is heavy: XLA compiles it" in caplog.text
    (serving,) = served_signatures_of([entry])
    for _ in range(1000):
        serving.ran(1, 1000, 1000, 10**15, ProcessorWait())  # short, and long after any pause
    assert not serving.light


def test_its_neighbours_and_fixed_shapes_are_as_light_as_they_are(entries):
    """Only what meets new shapes counts: a signature of one shape was compiled at warm-up."""
    found = entries("compiled")
    for name in ("plain", "fixed"):
        assert found[name].stays_heavy == ""
        assert found[name].cost.light


def test_sizes_that_are_all_warm_need_no_compiler(entries):
    """With allowed_batch_sizes there is code for every batch before the first call."""
    entry = entries("compiled", allowed_batch_sizes=(1, 4, 8))["serving_default"]
    assert [rows for rows, _ in entry.cost.batches] == [4, 8]
    assert entry.stays_heavy == ""
    assert entry.cost.light


def test_without_joining_there_are_no_sizes(entries):
    """Requests then run with as many rows as they have."""
    entry = entries("compiled", allowed_batch_sizes=(1, 4, 8), batching=False)["serving_default"]
    assert not entry.cost.light


def test_the_setting_xla_means_the_same(entries):
    """It compiles parts of any graph."""
    entry = entries("mlp", xla=True)["serving_default"]
    assert not entry.cost.light
    assert "the setting xla" in entry.cost.note


def test_fetches_of_a_session_are_looked_at_too(saved_models):
    """They are no signature of the model's, and run through the same functions."""
    spec = ModelSpec("compiled", str(saved_models["compiled"]), intra_op_threads=1)
    loaded = repository.load([spec], warm=False)
    try:
        model = loaded.models["compiled"]
        ends = {name: model._endpoints[name] for name in ("serving_default", "plain")}
        made = {n: loaded.ad_hoc("compiled", end.feeds, end.fetches)[0] for n, end in ends.items()}
        assert "XLA compiles it" in made["serving_default"].stays_heavy
        assert made["plain"].stays_heavy == ""
        np.testing.assert_allclose(
            made["serving_default"].run(np.ones((2, 4), np.float32))[0], np.tanh(np.ones((2, 4))), rtol=1e-5
        )
    finally:
        loaded.close()
