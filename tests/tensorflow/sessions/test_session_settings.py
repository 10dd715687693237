"""How a model's session is configured: XLA, threads, GPUs, any field of ConfigProto."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.models.mlp import mlp_answer
from broker.models.errors import ModelLoadError
from broker.models.sources import session_config
from broker.models.sources.session_config import config_of
from broker.models.spec import ModelSpec
from broker.models.tf.runtime import config_pb2


def config(threads: int = 1, **settings):
    return config_of(ModelSpec("m", "models/m", **settings), threads)


def ops_run(model, x: np.ndarray) -> set[str]:
    """The types of the operations that a run of the model really executes."""
    endpoint = model._endpoints[model.default_signature]
    metadata = config_pb2.RunMetadata()
    options = config_pb2.RunOptions(output_partition_graphs=True)
    model._session.run(endpoint.fetches, {endpoint.feeds[0]: x}, options, metadata)
    return {node.op for graph in metadata.partition_graphs for node in graph.node}


@pytest.mark.parametrize(
    "settings",
    [
        {"xla": True},
        {"session_config": {"graph_options": {"optimizer_options": {"global_jit_level": "ON_1"}}}},
        {"session_config": "graph_options { optimizer_options { global_jit_level: ON_1 } }"},
    ],
)
def test_xla_compiles_what_it_can(load, rng, settings):
    """On a CPU as well; the answers are the model's."""
    x = rng.normal(size=(3, 128)).astype(np.float32)
    model = load("mlp", **settings)
    assert "_XlaRun" in ops_run(model, x)
    np.testing.assert_allclose(model.callable("serving_default")(x)[0], mlp_answer(x), atol=1e-6)


def test_xla_is_off_unless_it_is_asked_for(load, rng):
    """Compiling for every new number of rows would surprise."""
    x = rng.normal(size=(3, 128)).astype(np.float32)
    assert not any("Xla" in name for name in ops_run(load("mlp"), x))


def test_threads():
    """Of the pool only if runs go through one; of its own then, so that models do not share theirs."""
    found = config(3, inter_op_threads=2, caller_thread=False)
    assert (found.intra_op_parallelism_threads, found.inter_op_parallelism_threads) == (3, 2)
    assert found.use_per_session_threads
    assert not config().use_per_session_threads


def test_memory_of_a_gpu(monkeypatch):
    """Grows as needed unless told otherwise, up to a share of it."""
    monkeypatch.setattr(session_config, "has_gpu", lambda: True)
    options = config().gpu_options
    assert (options.allow_growth, options.per_process_gpu_memory_fraction) == (True, 0)
    options = config(gpu_memory_growth=False, gpu_memory_fraction=0.25).gpu_options
    assert (options.allow_growth, options.per_process_gpu_memory_fraction) == (False, 0.25)
    assert "GPU" not in config().device_count


def test_without_a_gpu_tensorflow_does_not_look_for_one(monkeypatch):
    """Its GPU build would complain on the console."""
    monkeypatch.setattr(session_config, "has_gpu", lambda: False)
    assert config().device_count["GPU"] == 0
    assert "GPU" in config().device_count


def test_a_config_goes_before_everything_else():
    """What it does not mention stays."""
    found = config(4, session_config={"intra_op_parallelism_threads": 2, "log_device_placement": True})
    assert (found.intra_op_parallelism_threads, found.log_device_placement) == (2, True)
    assert found.allow_soft_placement


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"threads": 2}, 'has no field named "threads"'),
        ({"log_device_placement": "maybe"}, "Failed to parse log_device_placement field"),
        ("no_such_field: 1", 'has no field named "no_such_field"'),
        ("gpu_options {", "Expected"),
    ],
)
def test_a_config_that_is_none(given, says):
    """The field that is wrong is named, with the setting it stands in."""
    with pytest.raises(ModelLoadError) as caught:
        config(session_config=given)
    assert "model 'm' from 'models/m' cannot be loaded: its session_config is not a ConfigProto: " in str(
        caught.value
    )
    assert says in str(caught.value)
