"""Requests are joined and split only where that is harmless: real SavedModels, also through a broker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from broker.cli import main
from broker.control_plane.query import ask
from broker.doctor.checks import versions
from broker.models.lifecycle.entry import ad_hoc_entry, entry_of
from broker.models.rows import independence
from broker.models.sources import session
from broker.models.sources.session import SessionModel
from broker.models.spec import ModelSpec
from broker.tuning.probe import Probe
from broker.tuning.verdicts import RememberedVerdicts
from tests.brokers import TestBroker, serving
from tests.models.saved_models import export
from tests.models.saved_rows import MAGIC
from worker_client import Client

RNG = np.random.default_rng(3)
LIST = RNG.normal(size=(100, 8)).astype(np.float32)
Load = Callable[..., SessionModel]


@pytest.mark.timeout(300)
def test_rows_that_depend_on_each_other_are_found_out_and_no_others(tmp_path: Path) -> None:
    """Each kind of model by itself; none is joined that must not be, and none kept apart that need not be."""
    export({"rows": tmp_path / "rows"})
    model = session.load(ModelSpec("rows", str(tmp_path / "rows"), intra_op_threads=1))
    wrong = {}
    for name, signature in model.signatures.items():
        apart = independence.examine(model.callable(name), signature, 64, seconds=30).apart
        if bool(apart) is not name.startswith("dependent"):
            wrong[name] = apart
    model.close()
    assert not wrong
    assert len(model.signatures) > 35


def test_the_small_mlp_is_found_independent(load: Load) -> None:
    model = load("mlp")
    assert entry_of(1, model, "serving_default", 1).batchable


def test_what_was_examined_is_remembered_with_the_models_content(load: Load, tmp_path: Path) -> None:
    """A second start runs nothing; another limit is examined anew; a record nobody can read counts as none."""
    model, verdicts = load("ranking"), RememberedVerdicts(tmp_path / "records")
    name = "serving_default"
    assert verdicts.find(model, name) is None
    found = entry_of(1, model, name, 1, verdicts=verdicts).apart
    assert "among other rows" in found
    assert verdicts.find(model, name) == found
    assert verdicts.find(load("ranking", max_batch_size=8), name) is None
    assert verdicts.find(model, "score") is None
    (record,) = (tmp_path / "records").iterdir()
    record.write_text(json.dumps({"apart": "so it was written"}))
    assert entry_of(1, model, name, 1, warm=False, verdicts=verdicts).apart == "so it was written"
    record.write_text("{")
    assert verdicts.find(model, name) is None


def test_without_warm_up_nothing_is_run_and_nothing_joined(load: Load) -> None:
    entry = entry_of(1, load("mlp"), "serving_default", 1, warm=False)
    assert (entry.batchable, entry.apart) == (False, "it is not warmed up, and so was not examined")


def test_by_hand_goes_before(load: Load) -> None:
    """ "on" joins even dependent rows, "off" joins nothing; tensors of a session are joined only with "on"."""
    name = "serving_default"
    assert entry_of(1, load("ranking", batching="on"), name, 1).batchable
    assert entry_of(1, load("ranking", batching=False), name, 1).apart == "batching is off"
    x, y = "serving_default_x:0", "StatefulPartitionedCall:0"
    entry, _ = ad_hoc_entry(1, load("mlp"), (x,), (y,), 1)
    assert "a session names" in entry.apart
    assert ad_hoc_entry(1, load("mlp", batching="on"), (x,), (y,), 1)[0].batchable


# --- through a broker ---


@pytest.fixture(scope="module")
def broker(
    saved_models: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestBroker]:
    late = {"source": saved_models["late_rows"], "max_batch_size": 8}
    models = {
        "ranking": {"source": saved_models["ranking"]},
        "late": {**late, "max_delay": 5.0},
        "filter": late,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        with serving(models=models) as running:
            yield running


def described(broker: TestBroker, model: str, signature: str = "serving_default") -> Mapping[str, Any]:
    told = ask(broker.address, "models")["models"][model]["signatures"]
    return {each["name"]: each for each in told}[signature]


def test_the_probabilities_of_each_list_add_up_to_one(broker: TestBroker, client: Client) -> None:
    """A list of any length is one request and one run, alone and beside others."""
    model = client.model("ranking")
    for rows in (1, 5, 64, 65, 100):
        assert model.predict(LIST[:rows], timeout=60).sum() == pytest.approx(1, abs=1e-4)
    futures = [model.submit(LIST[start : start + 5], timeout=60) for start in range(0, 80, 5)]
    assert [future.result(60).sum() for future in futures] == pytest.approx([1] * 16, abs=1e-4)
    assert broker.status()["models"]["ranking"]["serving_default"]["batch_rows"]["100"] == 1


def test_so_do_those_that_a_session_is_asked_for(load: Load, client: Client) -> None:
    """Tensors by their names are nowhere examined, and so run as they came."""
    endpoint = load("ranking")._endpoints["serving_default"]
    handle = client.session("ranking")
    for rows in (5, 65, 100):
        (y,) = handle.run(list(endpoint.fetches), {endpoint.feeds[0]: LIST[:rows]})
        assert y.sum() == pytest.approx(1, abs=1e-4)


def test_the_decision_is_shown_with_its_reason(broker: TestBroker) -> None:
    """To programs, in the counters, and in the table of `onesession models`."""
    score, probability = (described(broker, "ranking", name) for name in ("score", "serving_default"))
    assert (score["batchable"], score["apart"]) == (True, "")
    assert not probability["batchable"]
    assert "among other rows" in probability["apart"]
    counters = broker.status()["models"]["ranking"]
    assert (counters["serving_default"]["apart"], counters["score"]["apart"]) == (probability["apart"], "")
    shown = CliRunner().invoke(main, ["models", "--name", str(broker.address)]).stdout
    assert "kept apart: its answer to a row by itself differs" in " ".join(shown.replace("│", "").split())


def test_answers_that_show_a_dependence_end_it(broker: TestBroker, client: Client) -> None:
    """If joined answers differ from separate ones in service, joining ends and the separate answers are returned."""
    model = client.model("late")
    assert described(broker, "late")["batchable"]
    rows = [np.full((1, 4), value, np.float32) for value in (1, MAGIC, 2, 3, 4, 5, 6, 7)]
    expected = [row * (4 if row[0, 0] == MAGIC else 2) for row in rows]
    for _ in range(3):
        futures = [model.submit(row, timeout=60) for row in rows]
        for future, right in zip(futures, expected):
            np.testing.assert_allclose(future.result(60), right, rtol=1e-6)
    counters = broker.status()["models"]["late"]["serving_default"]
    assert "an answer differed when joined with other requests" in counters["apart"]
    assert counters["batch_rows"].get("8", 0) <= 1
    assert not described(broker, "late")["batchable"]


def test_a_run_that_gives_other_rows_than_it_took_is_the_last_joined_one(
    broker: TestBroker, client: Client
) -> None:
    model = client.model("filter", signature="filtered")
    x = np.array([[1] * 4, [MAGIC] * 4, [2] * 4], np.float32)
    np.testing.assert_array_equal(model.predict(x, timeout=60), x[::2])
    assert broker.status()["models"]["filter"]["filtered"]["apart"] == "3 rows had an answer of 2"
    many = np.arange(80, dtype=np.float32).reshape(20, 4)
    np.testing.assert_array_equal(model.predict(many, timeout=60), many)
    assert broker.status()["models"]["filter"]["filtered"]["batch_rows"]["20"] == 1


def test_the_next_start_knows_what_service_has_shown(
    saved_models: Mapping[str, Path], load: Load, tmp_path: Path
) -> None:
    verdicts = RememberedVerdicts(tmp_path)
    entry = entry_of(1, load("late_rows"), "serving_default", 1, verdicts=verdicts)
    assert entry.batchable
    entry.keep_apart("seen in service")
    assert not entry.batchable
    assert entry_of(1, load("late_rows"), "serving_default", 1, verdicts=verdicts).apart == "seen in service"


def test_no_batches_are_measured_for_what_is_kept_apart(
    saved_models: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tuner's probe asks the same examination, and what it finds is there for the broker."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    probe = Probe()
    for kind, batchable in (("mlp", True), ("ranking", False)):
        spec = ModelSpec(kind, str(saved_models[kind]), intra_op_threads=1)
        opened = probe.answer({"do": "open", "stand": 1, "spec": asdict(spec)})
        assert opened["batchable"] is batchable
        probe.answer({"do": "close"})
    folder = tmp_path / "onesession" / "tuning"
    assert len(list(folder.glob("*-rows-*.json"))) == 2
    found = versions.records(folder)  # what `onesession doctor` makes of them
    assert (found.level.value, found.found) == ("ok", f"2 in {folder}")
    next(folder.glob("*-rows-*.json")).write_text("{}")
    assert versions.records(folder).level.value == "warning"
