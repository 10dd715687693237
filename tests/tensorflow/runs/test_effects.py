"""What changes something is found by its ops and run for its callers only: real SavedModels beside numpy's answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import worker_client
from broker import adopt
from broker.models.effects.signature_effects import EffectKind, describe, effects_of
from broker.models.lifecycle import repository
from broker.models.lifecycle.repository import Repository
from broker.models.sources import session
from broker.models.spec import ModelSpec
from broker.models.tf.graph import GraphSignature
from broker.tuning.probe import NotRunnable, Probe
from tests.brokers import serving
from tests.models.saved_models import export
from tests.models.stateful_models import RATE, RECURRENT, WEIGHTS, written
from worker_client.wire.signature import Signature

v1 = tf.compat.v1
X = np.array([[1.0, 0.5, -1.0], [0.0, 2.0, 3.0]], np.float32)
TEXTS = np.array([b"a"], object)

STATEFUL = {
    "train": "writes variable 'w'",
    "count": "writes variable 'n'",
    "put": "writes table '.*'",
    "normalise": "writes variable 'average'",
    "step": "writes variable 'h'",
    "write": r"writes files \(op WriteFile '.*'\)",
    "checkpoint": r"writes files \(op SaveV2 '.*'\)",
    "drop": r"draws random numbers \(op RandomUniform '.*'\)",
    "generate": r"draws random numbers \(op RngReadAndSkip '.*'\)",
    "nested": "writes variable 'n'",
    "branch": "writes variable 'n'",
    "loop": "writes variable 'n'",
    "each_row": "writes variable 'n'",
    "data_set": "writes variable 'n'",
    "shuffled": r"draws random numbers \(op ShuffleDataset.*\)",
}
CLASSIC = {
    "count": "writes variable 'n'",
    "scatter": "writes variable 'table'",
    "enqueue": "moves on queue 'queue'",
    "noise": r"draws random numbers \(op RandomUniform 'noise/RandomUniform'\)",
    "fit": r"(writes variable 'n'|draws random numbers \(.*\)); (writes variable 'n'|draws random numbers \(.*\))",
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("stateful")
    kinds = ("stateful", "counter", "stateless", "classic_stateful", "mlp")
    paths = {kind: root / kind for kind in kinds}
    export(paths)
    return paths


@pytest.fixture
def loaded(paths: dict[str, Path]) -> Iterator[Callable[..., Repository]]:
    """`loaded(kind)` is served and warmed up as a broker does it."""
    made: list[Repository] = []

    def load(kind: str, **settings: Any) -> Repository:
        made.append(repository.load([ModelSpec("m", str(paths[kind]), **settings)]))
        return made[-1]

    yield load
    for each in made:
        each.close()


def effects(found: Repository) -> dict[str, str]:
    return {name: text for name, text in found.models["m"].effects.items() if text}


def check(found: dict[str, str], wanted: dict[str, str]) -> None:
    assert found.keys() == wanted.keys()
    for name, pattern in wanted.items():
        assert re.fullmatch(pattern, found[name]), f"{name}: {found[name]}"


# -- what is found -------------------------------------------------------------------------------------------------


def test_each_way_to_change_something_is_found(loaded: Callable[..., Repository]) -> None:
    """Directly, in nested functions, conditionals, loops, maps and data sets; what only reads is not among them."""
    found = loaded("stateful")
    check(effects(found), STATEFUL)
    assert found.models["m"].effects["get"] == found.models["m"].effects["mean"] == ""
    for name in STATEFUL:
        entry = found.entry("m", name)
        assert entry.stateful == found.models["m"].effects[name]
        assert not entry.batchable
        assert not entry.cost.light


def test_what_only_looks_stateful_is_not(loaded: Callable[..., Repository]) -> None:
    """Tables and variables that are read, arrays and data sets of one run, seeds that are given, checks, prints."""
    for kind in ("stateless", "mlp"):
        found = loaded(kind)
        assert effects(found) == {}
        for name in found.models["m"].signatures:
            assert found.entry("m", name).cost.p50_us is not None, name


def test_tensorflow_1(loaded: Callable[..., Repository]) -> None:
    """Reference variables and queues; a branch that a constant rules out does not count, one that is fed does."""
    check(effects(loaded("classic_stateful")), CLASSIC)


def test_python_is_found_by_itself() -> None:
    """A signature that calls Python counts as changing something, because Python may do anything."""
    graph = tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        y = v1.py_func(lambda a: a, [x], tf.float32, name="called")
        z = v1.py_func(lambda a: a, [x], tf.float32, stateful=False, name="pure")
    for tensor in (y, z):
        (effect,) = effects_of(graph, GraphSignature(Signature("s", (), ()), ("x:0",), (tensor.name,)))
        assert effect.kind is EffectKind.PYTHON
    assert describe([effect]) == "calls Python (op PyFuncStateless 'pure')"


def test_only_what_a_run_reaches_counts() -> None:
    """Feeds cut the graph; control inputs and targets belong to it."""
    graph = tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.float32, [None], name="x")
        n = v1.get_variable("n", initializer=0.0, use_resource=True)
        noisy = tf.add(x, v1.random_uniform([]), name="noisy")
        with tf.control_dependencies([n.assign_add(1.0)]):
            tf.multiply(noisy, 2.0, name="y")
        tf.multiply(noisy, 3.0, name="z")
        tf.group(n.assign(0.0), name="reset")

    def kinds(feeds: tuple[str, ...], fetches: tuple[str, ...], *targets: str) -> list[EffectKind]:
        found = effects_of(graph, GraphSignature(Signature("s", (), ()), feeds, fetches), targets)
        return [effect.kind for effect in found]

    assert set(kinds(("x:0",), ("y:0",))) == {EffectKind.RANDOM, EffectKind.VARIABLES}
    assert kinds(("x:0",), ("z:0",)) == [EffectKind.RANDOM]
    assert kinds(("noisy:0",), ("z:0",)) == []
    assert kinds(("noisy:0",), ("y:0",)) == [EffectKind.VARIABLES]
    assert kinds(("noisy:0",), ("z:0",), "reset") == [EffectKind.VARIABLES]


@pytest.mark.timeout(400)
def test_keras(tmp_path: Path) -> None:
    """Layers called to train, RNNs that go on and metrics change something; what Keras exports to infer does not."""
    kinds = ("keras_stateful", "keras_stateless", "mobilenet")
    export({kind: tmp_path / kind for kind in kinds})
    specs = [ModelSpec(kind, str(tmp_path / kind), intra_op_threads=1) for kind in kinds]
    found = repository.load(specs, warm=False)
    try:
        told = {name for name, text in found.models["keras_stateful"].effects.items() if text}
        assert told == {"dropping", "normalising", "going_on", "measured"}
        for kind in kinds[1:]:
            assert set(found.models[kind].effects.values()) == {""}
    finally:
        found.close()


# -- what loading does not do --------------------------------------------------------------------------------------


def test_loading_changes_nothing(loaded: Callable[..., Repository], paths: dict[str, Path]) -> None:
    """After load and warm-up, each first answer is the one of a model that nobody has run."""
    found = loaded("stateful")
    assert written(paths["stateful"]) == []
    run = {name: found.entry("m", name).run for name in found.models["m"].signatures}

    np.testing.assert_allclose(run["serving_default"](X)[0], X @ WEIGHTS, rtol=1e-6)
    assert run["count"](X)[0].tolist() == [1, 1]
    assert run["get"](TEXTS)[0].tolist() == [-1]
    assert run["get"](np.array([b""], object))[0].tolist() == [-1]
    np.testing.assert_allclose(run["mean"](X)[0], X)
    np.testing.assert_allclose(run["normalise"](X)[0], X - 0.1 * X.mean(0), rtol=1e-6)
    state = np.zeros((1, 2), np.float32)
    for _ in range(2):
        state = np.tanh(np.ones((1, 2)) + state @ RECURRENT + 0.5)
        np.testing.assert_allclose(run["step"](np.ones((1, 2), np.float32))[0], state, rtol=1e-5)

    wanted = np.zeros((2, 2), np.float32)
    error = X @ WEIGHTS - wanted
    assert run["train"](wanted, X)[0][0] == pytest.approx(np.square(error).sum())
    after = WEIGHTS - RATE * 2 * X.T @ error
    np.testing.assert_allclose(run["serving_default"](X)[0], X @ after, rtol=1e-5)
    run["write"](X)
    assert len(written(paths["stateful"])) == 1


def test_random_numbers_begin_where_the_seed_says(loaded: Callable[..., Repository]) -> None:
    """A generator's first draw is the first caller's."""
    first, again = [loaded("stateful").entry("m", "generate").run for _ in range(2)]
    np.testing.assert_array_equal(first(X)[0], again(X)[0])
    assert not np.array_equal(first(X)[0], first(X)[0])


def test_a_default_signature_with_effects_is_not_probed(
    loaded: Callable[..., Repository], paths: dict[str, Path]
) -> None:
    """Neither by the loader, which guesses the threads from the weights, nor by the tuner, which says why."""
    found = loaded("counter")
    assert found.models["m"].intra_op_threads == session.ALL_CORES
    entry = found.entry("m")
    assert entry.cost.note == "run for its callers only: a run writes variable 'n'"
    assert entry.run(X)[0].tolist() == [1, 1]
    spec = asdict(ModelSpec("m", str(paths["counter"]), intra_op_threads=1))
    with pytest.raises(
        NotRunnable, match="serving_default is run for its callers only: a run writes variable 'n'"
    ):
        Probe().answer({"do": "open", "stand": 1, "spec": spec})


def test_warmup_false(loaded: Callable[..., Repository], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is run before the first call, whatever the signature does."""
    runs: list[str] = []
    for module in ("sources.session", "lifecycle.entry"):
        monkeypatch.setattr(f"broker.models.{module}.measure", lambda *_, **__: runs.append("measured"))
    found = loaded("mlp", warmup=False)
    entry = found.entry("m")
    assert runs == []
    assert (entry.cost.p50_us, entry.cost.light) == (None, False)
    assert entry.cost.note == "run for its callers only: warmup is false"
    assert entry.apart == "it is not warmed up, and so was not examined"
    assert entry.stateful == ""


# -- sessions ------------------------------------------------------------------------------------------------------


def test_fetches_and_operations_of_a_session(loaded: Callable[..., Repository]) -> None:
    """Any tensors of the graph: those whose run changes something are stateful, by their operations as well."""
    found = loaded("classic_stateful", batching="on", session_effects=True)
    pure, _, _ = found.ad_hoc("m", ("x:0",), ("inferred:0",))
    assert pure.stateful == ""
    assert pure.batchable
    counted, _, _ = found.ad_hoc("m", ("x:0",), ("counted:0",))
    assert counted.stateful == "writes variable 'n'"
    assert not counted.batchable
    reset, operations, _ = found.ad_hoc("m", ("x:0",), ("inferred:0", "reset"))
    assert operations == ("reset",)
    assert reset.stateful == "writes variable 'n'"


def test_adopted_sessions_and_keras_models() -> None:
    """Effects of sessions and Keras models that another module owns are found in the same way."""
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as owned:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        n = v1.get_variable("n", initializer=0.0, use_resource=True)
        counted = x + n.assign_add(1.0)
        owned.run(v1.global_variables_initializer())
        model = adopt.session("m", owned, {"x": x}, {"y": counted})
        found = repository.load([], adopted=[model])
        assert found.entry("m").stateful == "writes variable 'n'"
        assert found.entry("m").run(X)[0].tolist() == (X + 1).tolist()
        found.close()
    keras = tf.keras
    going_on = keras.Sequential([keras.Input((4, 3), batch_size=2), keras.layers.SimpleRNN(2, stateful=True)])
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(2)])
    assert adopt.keras("m", going_on).effects["serving_default"].startswith("writes a variable (op Assign")
    assert adopt.keras("m", plain).effects["serving_default"] == ""


# -- in a broker ---------------------------------------------------------------------------------------------------


def test_in_a_broker(paths: dict[str, Path]) -> None:
    """Each call counts once, whatever worker makes it and whatever else runs; the workers know what is stateful."""
    with (
        serving(
            models={
                "m": str(paths["stateful"]),
                "classic": {"source": str(paths["classic_stateful"]), "session_effects": True},
            },
            tune="off",
        ) as broker,
        worker_client.connect(broker.address) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        signatures = client.models()["m"].signatures
        assert {name for name, info in signatures.items() if info.stateful} == set(STATEFUL)
        count = client.model("m", signature="count")
        answers = threads.map(lambda rows: count.predict(np.ones((rows, 3), np.float32)), [1, 2, 100] * 20)
        seen = sorted(int(answer[0]) for answer in answers if len(set(answer.tolist())) == 1)
        assert seen == list(range(1, 61))
        client.model("m", signature="put").predict({"key": TEXTS, "value": np.array([7])})
        assert client.model("m", signature="get").predict(np.array([b"a", b""], object)).tolist() == [7, -1]
        with client.session("classic") as inside:
            assert [inside.run("counted:0", {"x:0": X}).tolist() for _ in range(2)] == [[1, 1], [2, 2]]


def test_what_is_told(loaded: Callable[..., Repository]) -> None:
    """`onesession models` and the workers learn what a run does."""
    found = loaded("counter")
    (told,) = found.describe()["m"]["signatures"]
    assert told["stateful"] == "writes variable 'n'"
    assert told["batchable"] is False
