"""All models of a broker: their numbers, their description, their end."""

from __future__ import annotations

import sys
import types

import msgpack
import pytest

from broker.models.errors import ModelLoadError
from broker.models.lifecycle import loading
from broker.models.lifecycle.repository import load
from broker.models.lifecycle.version import Version, VersionState
from broker.models.python.function import signature
from broker.models.spec import ModelSpec
from broker.models.warmup import Cost
from worker_client.wire.errors import BrokerError, InvalidInput, ModelNotFound
from worker_client.wire.signature import Signature

ECHO = "broker.models.python.echo:echo"


@pytest.fixture
def scalar_model(monkeypatch) -> str:
    """The source of a model without a batch dimension."""
    module = types.ModuleType("app_models")
    module.f = signature(inputs={"x": ("float32", [])}, outputs={"y": ("float32", [])}, name="scalar")(
        lambda x: x
    )
    monkeypatch.setitem(sys.modules, "app_models", module)
    return "app_models:f"


def test_ids_are_dense_from_one(scalar_model):
    """`entries[id]` finds an entry by the id it carries; 0 is none."""
    models = load([ModelSpec("a", ECHO), ModelSpec("b", scalar_model), ModelSpec("c", ECHO)])
    assert models.entries[0] is None
    assert [entry.id for entry in models.entries[1:]] == [1, 2, 3]
    assert [entry.model.spec.name for entry in models.entries[1:]] == ["a", "b", "c"]


def test_an_entry_is_found_by_names(scalar_model):
    """By model and signature; without one, the default signature is meant."""
    models = load([ModelSpec("a", ECHO), ModelSpec("b", scalar_model)])
    assert models.entry("b") is models.entry("b", "scalar") is models.entries[2]


def test_unknown_names_are_told_with_the_known():
    """The errors list what the broker serves."""
    models = load([ModelSpec("b", ECHO), ModelSpec("a", ECHO)])
    with pytest.raises(ModelNotFound, match="the broker serves no model 'x'; it serves a, b"):
        models.entry("x")
    with pytest.raises(ModelNotFound, match="model 'a' has no signature 'x'; it has serving_default"):
        models.entry("a", "x")
    with pytest.raises(ModelNotFound, match="it serves none"):
        load([]).entry("a")


def test_what_may_be_batched(scalar_model):
    """Batching needs a signature that allows it and a model that has it switched on."""
    models = load(
        [
            ModelSpec("on", ECHO, max_batch_size=16),
            ModelSpec("off", ECHO, batching=False),
            ModelSpec("scalar", scalar_model),
        ]
    )
    told = [(entry.batchable, entry.max_batch_size) for entry in models.entries[1:]]
    assert told == [(True, 16), (False, 1), (False, 1)]


def test_the_description_crosses_the_control_plane():
    """It is plain values, and each signature in it can be rebuilt by the client."""
    models = load([ModelSpec("m", ECHO)])
    told = msgpack.unpackb(msgpack.packb(models.describe()))["m"]
    (described,) = told.pop("signatures")
    (version,) = told.pop("versions")
    assert told.pop("p50_us") > 0
    assert told == {
        "name": "m",
        "source": ECHO,
        "version": 1,
        "default_signature": "serving_default",
        "max_batch_size": 64,
        "intra_op_threads": None,
        "onednn": None,
        "timeout": None,
        "max_concurrency": 1,
        "caller_thread": True,
        "light": True,
        "left_out": {},
        "policy": "latest",
        "labels": {},
    }
    assert Signature.from_message(described) == models.entry("m").signature
    assert (described["batchable"], described["light"]) == (True, True)
    assert (version["version"], version["state"], version["cause"]) == (1, "AVAILABLE", "")
    (own,) = version["signatures"]
    assert (own["id"], models.table()[described["id"]]) == (1, models.entry("m"))


def test_without_warming_nothing_is_run():
    """With `warm=False` nothing is run, and the costs stay unknown."""
    assert load([ModelSpec("m", ECHO)], warm=False).entry("m").cost == Cost(None, False, "not measured")


def test_what_is_not_run_before_its_first_call(monkeypatch):
    """A function that says that it changes something, and any model whose warmup is false; only the one is alone."""
    runs: list[int] = []
    module = types.ModuleType("app_models")

    def f(x):
        runs.append(len(x))
        return x

    rows = {"x": ("float32", [None])}, {"y": ("float32", [None])}
    module.stateful = signature(inputs=rows[0], outputs=rows[1], stateful=True)(f)
    other = signature(inputs=rows[0], outputs=rows[1], independent_rows=True)
    module.other = other(lambda x: runs.append(len(x)) or x)
    monkeypatch.setitem(sys.modules, "app_models", module)
    models = load([ModelSpec("a", "app_models:stateful"), ModelSpec("b", "app_models:other", warmup=False)])
    assert runs == []
    stateful, other = models.entry("a"), models.entry("b")
    assert (stateful.batchable, stateful.max_batch_size) == (False, 1)
    assert stateful.stateful == "changes state, as its function declares"
    assert (other.batchable, other.max_batch_size, other.stateful) == (True, 64, "")
    assert stateful.cost == Cost(
        None, False, "run for its callers only: a run changes state, as its function declares"
    )
    assert other.cost == Cost(None, False, "run for its callers only: warmup is false")


def test_the_next_version_is_known_by_another_number_if_it_is_stateful(monkeypatch):
    """By the number a worker knows what it must not run again, so a number is one or the other for good."""
    module = types.ModuleType("app_models")
    rows = {"x": ("float32", [None])}, {"y": ("float32", [None])}
    for name, stateful in (("one", False), ("two", True), ("three", True)):
        setattr(module, name, signature(inputs=rows[0], outputs=rows[1], stateful=stateful)(lambda x: x))
    monkeypatch.setitem(sys.modules, "app_models", module)
    numbers = []
    models = load([ModelSpec("a", "app_models:one")])
    served = models.served["a"]
    for number, name in enumerate(("two", "three"), 2):
        numbers.append(models.describe()["a"]["signatures"][0]["id"])
        version = Version(number, ModelSpec("a", f"app_models:{name}"))
        loading.load(version)
        loading.warm_up(version, models.new_number)
        version.enter(VersionState.AVAILABLE)
        served.versions.append(version)
        models.follow()
    numbers.append(models.describe()["a"]["signatures"][0]["id"])
    assert numbers[0] != numbers[1]
    assert numbers[1] == numbers[2]


def test_every_failure_is_told():
    """Where nothing can be served, one start shows everything there is to repair."""
    with pytest.raises(ModelLoadError) as caught:
        load([ModelSpec("a", "no_module:f"), ModelSpec("b", "broker.models.python.echo:nope")])
    assert isinstance(caught.value, BrokerError)
    lines = str(caught.value).splitlines()
    assert lines[0] == "2 models cannot be loaded:"
    assert lines[1].startswith(
        "  - model 'a' from 'no_module:f' cannot be loaded: there is no module 'no_module'"
    )
    assert lines[2].startswith("  - model 'b' from 'broker.models.python.echo:nope' cannot be loaded: ")


def test_a_single_failure_stands_alone():
    """One model that fails is told in one line."""
    with pytest.raises(ModelLoadError, match=r"^model 'a' from 'no_module:f' cannot be loaded: [^\n]*$"):
        load([ModelSpec("a", "no_module:f")])


def test_models_of_one_name_are_refused():
    """Before anything is loaded."""
    with pytest.raises(InvalidInput, match="two models are called 'm'"):
        load([ModelSpec("m", ECHO), ModelSpec("m", "no_module:f")])


def test_repr_tells_what_is_served():
    """A repository and its entries can be read in a debugger."""
    models = load([ModelSpec("m", ECHO)], warm=False)
    assert repr(models) == "<Repository of 1 models, 1 signatures>"
    assert repr(models.entries[1]) == "<Entry 1 m/serving_default heavy>"
    models.close()
