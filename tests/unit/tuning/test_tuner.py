"""Which models are measured, what is remembered, and what the specs get; with a laboratory that measures nothing."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from broker.config.settings import Settings
from broker.models.spec import ModelSpec
from broker.tuning import machine, tuner
from broker.tuning.experiment import MeasuredTable, NotMeasurable
from broker.tuning.race import RaceProgress
from broker.tuning.records import PATIENCE, Records
from broker.tuning.setting import SampleTable
from broker.tuning.tuner import Switch, TunedModel, filled, tuned
from tests.unit.tuning.tables import table

LIGHT = table(
    {
        "2x1 pool on": (19, [33_000, 36_000, 97_000]),
        "1x1 caller on": (10, [83_000, 354_000, 635_000]),
        "1x1 caller off": (6, [150_000, 479_000, 932_000]),
    }
)
HEAVY = table(
    {
        "2x1 pool on": (9900, [93, 166, 188]),
        "1x2 caller on": (7700, [247, 233, 227]),
        "1x2 caller off": (10100, [192, 181, 113]),
    }
)


class FakeProbePool:
    """Gives the table of the model's name, and notes what it was asked."""

    tables: ClassVar[dict[str, SampleTable | NotMeasurable]] = {}
    others = 0.0
    complete = True
    asked: ClassVar[list[tuple[str, float]]] = []
    made: ClassVar[list[tuple[bool | None, bool]]] = []

    def __init__(self, onednn: bool | None, *, both: bool, weights: int) -> None:
        self.made.append((onednn, both))

    def __enter__(self) -> FakeProbePool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def measure(
        self, spec: ModelSpec, directory: Path, seconds: float, on_progress: Callable[[RaceProgress], None]
    ) -> MeasuredTable:
        self.asked.append((spec.name, seconds))
        on_progress(RaceProgress(1, 2, 3.0))
        found = self.tables[spec.name]
        if isinstance(found, NotMeasurable):
            raise found
        return MeasuredTable(found, "serving_default", self.others, self.complete, 1.0)


@pytest.fixture
def probe_pool(monkeypatch):
    """The class that stands for the laboratory: set its `tables`, read what it was `asked`."""
    monkeypatch.setattr(FakeProbePool, "tables", {"light": LIGHT, "heavy": HEAVY})
    for name in ("asked", "made"):
        monkeypatch.setattr(FakeProbePool, name, [])
    monkeypatch.setattr(tuner, "ProbePool", FakeProbePool)
    monkeypatch.setattr(tuner, "_has_tensorflow", lambda: True)
    monkeypatch.delitem(tuner.sys.modules, "tensorflow", raising=False)
    return FakeProbePool


@pytest.fixture
def no_switch(monkeypatch):
    """$TF_ENABLE_ONEDNN_OPTS is not set, and what is set is taken back."""
    monkeypatch.setattr(tuner, "_set_by_us", None)
    monkeypatch.setenv(machine.ONEDNN_VARIABLE, "")
    monkeypatch.delenv(machine.ONEDNN_VARIABLE)


@pytest.fixture
def tune(tmp_path: Path, probe_pool, no_switch):
    """`tune("light", "heavy", tune=..., settings={...})` gives the specs; each model has a directory of its own."""
    records = Records(tmp_path / "records")

    def run(
        *names: str, tune: str = "auto", by_hand: dict[str, Any] | None = None, **options: Any
    ) -> list[ModelSpec]:
        for name in names:
            path = tmp_path / name
            path.mkdir(exist_ok=True)
            (path / "saved_model.pb").write_bytes(b"\x0a" + bytes([len(name)]) + name.encode())
        specs = tuple(ModelSpec(name, str(tmp_path / name), **(by_hand or {})) for name in names)
        return list(tuned(Settings(models=specs, tune=tune, **options), records))

    return run


def chosen(spec: ModelSpec) -> tuple[int | None, int | None, bool | None, int | None]:
    return spec.intra_op_threads, spec.max_concurrency, spec.caller_thread, spec.max_batch_size


def test_specs_are_filled_and_onednn_is_set(tune):
    """By itself the small model runs without oneDNN, the large one with two runs side by side and no batches."""
    assert [chosen(spec) for spec in tune("light")] == [(1, 1, True, 8)]
    assert os.environ[machine.ONEDNN_VARIABLE] == "0"
    os.environ.pop(machine.ONEDNN_VARIABLE)
    assert [chosen(spec) for spec in tune("heavy")] == [(1, 2, True, 1)]
    assert os.environ[machine.ONEDNN_VARIABLE] == "1"


def test_together_they_share_one_onednn(tune, caplog):
    """The large model decides, and what the small one loses by that is told."""
    caplog.set_level(logging.INFO, "onesession.tuning")
    assert [chosen(spec) for spec in tune("light", "heavy")] == [(1, 1, True, 8), (1, 2, True, 1)]
    assert os.environ[machine.ONEDNN_VARIABLE] == "1"
    assert "light alone would run 932000 rows/s with oneDNN off" in caplog.text


def test_a_nodes_broker_runs_large_batches_whole_and_two_at_a_time(tune):
    """Unless something else is set or, of threads and runs, measured. A function may not stand two calls at a time."""
    of_node = {"idle_seconds": 60.0, "tune": "remembered"}
    assert chosen(tune("heavy", **of_node)[0]) == (None, 2, None, 256)
    assert chosen(tune("heavy", idle_seconds=60.0, tune="off")[0]) == (None, 2, None, 256)
    by_hand = {"max_batch_size": 32, "max_concurrency": 1}
    assert chosen(tune("heavy", by_hand=by_hand, **of_node)[0]) == (None, 1, None, 32)
    sizes = {"allowed_batch_sizes": (8, 16)}
    assert tune("heavy", by_hand=sizes, **of_node)[0].batch_limit == 16
    (function,) = tuned(Settings(models=(ModelSpec("f", "models:f"),), **of_node))
    assert chosen(function) == (None, None, None, 256)
    tune("light")
    assert chosen(tune("light", **of_node)[0]) == (1, 1, True, 256)


def test_the_second_start_measures_nothing(tune, probe_pool):
    """What was measured is remembered, oneDNN included."""
    first = tune("heavy")
    assert tune("heavy") == first
    assert [name for name, _ in probe_pool.asked] == ["heavy"]
    assert os.environ[machine.ONEDNN_VARIABLE] == "1"


def test_off_and_remembered_measure_nothing(tune, probe_pool):
    """`off` leaves all to guesses; `remembered` takes what there is."""
    for mode in ("off", "remembered"):
        assert chosen(tune("heavy", tune=mode)[0]) == (None, None, None, None)
    assert probe_pool.asked == []
    tune("heavy")
    assert chosen(tune("heavy", tune="off")[0]) == (None, None, None, None)
    assert chosen(tune("heavy", tune="remembered")[0]) == (1, 2, True, 1)
    assert len(probe_pool.asked) == 1


def test_only_what_is_missing_is_measured(tune, probe_pool):
    """A new model beside one that is known."""
    tune("heavy")
    tune("light", "heavy")
    assert [name for name, _ in probe_pool.asked] == ["heavy", "light"]


def test_python_models_and_what_cannot_be_loaded_are_left_alone(probe_pool, no_switch, tmp_path):
    """Loading says what is wrong with a model; tuning does not."""
    specs = (ModelSpec("echo", "broker.models.python.echo:echo"), ModelSpec("gone", str(tmp_path / "gone")))
    assert tuned(Settings(models=specs, tune="auto"), Records(tmp_path / "records")) == specs
    assert probe_pool.asked == []
    assert machine.ONEDNN_VARIABLE not in os.environ


def test_what_is_set_by_hand_stays(tune):
    """Whatever the table says."""
    (spec,) = tune("heavy", by_hand={"intra_op_threads": 2, "max_batch_size": 32})
    assert (spec.intra_op_threads, spec.max_batch_size) == (2, 32)


def test_where_all_is_set_nothing_is_measured(tune, probe_pool):
    """There is nothing to find."""
    by_hand = {"intra_op_threads": 1, "max_concurrency": 1, "caller_thread": True, "max_batch_size": 8}
    tune("heavy", by_hand=by_hand, onednn="on")
    assert probe_pool.asked == []
    assert os.environ[machine.ONEDNN_VARIABLE] == "1"


def test_allowed_batch_sizes_are_cut_at_what_pays(tune):
    """The sizes beyond the best are not used, and the spec stays consistent."""
    (spec,) = tune("light", by_hand={"allowed_batch_sizes": (1, 8, 32)})
    assert (spec.allowed_batch_sizes, spec.max_batch_size, spec.batch_limit) == ((1, 8), 8, 8)


@pytest.mark.parametrize(
    ("variable", "setting", "made", "after"),
    [
        (None, "auto", (None, True), "0"),
        (None, "on", (True, False), "1"),
        (None, "off", (False, False), "0"),
        ("0", "auto", (False, False), "0"),
        ("0", "on", (False, False), "0"),
        ("1", "off", (True, False), "1"),
    ],
)
def test_who_sets_onednn(tune, probe_pool, monkeypatch, variable, setting, made, after):
    """The user's environment goes first, then the setting; only if neither says, both are tried."""
    if variable is not None:
        monkeypatch.setenv(machine.ONEDNN_VARIABLE, variable)
    tune("light", onednn=setting)
    assert probe_pool.made == [made]
    assert os.environ[machine.ONEDNN_VARIABLE] == after


def test_where_tensorflow_is_loaded_already_its_switch_is_left(tune, probe_pool, monkeypatch):
    """It has been read: only what is now can be measured, and nothing is set."""
    monkeypatch.setitem(tuner.sys.modules, "tensorflow", object())
    (spec,) = tune("light")
    assert probe_pool.made == [(None, False)]
    assert chosen(spec) == (1, 1, True, 8)
    assert machine.ONEDNN_VARIABLE not in os.environ


def test_warmup_false_measures_nothing(tune, probe_pool):
    """What is remembered of the model is taken all the same, as that runs nothing."""
    assert chosen(*tune("light", by_hand={"warmup": False})) == (None, None, None, None)
    assert probe_pool.asked == []
    tune("light")
    assert chosen(*tune("light", by_hand={"warmup": False})) == (1, 1, True, 8)
    assert [name for name, _ in probe_pool.asked] == ["light"]


def test_a_second_broker_in_one_process(tune, probe_pool, monkeypatch):
    """What we set ourselves is not taken for the user's word: with TensorFlow loaded, the record is found again."""
    first = tune("light")
    assert tune("light") == first
    monkeypatch.setitem(tuner.sys.modules, "tensorflow", object())
    assert tune("light") == first
    tune("heavy")
    assert [name for name, _ in probe_pool.asked] == ["light", "heavy"]
    assert probe_pool.made == [(None, True), (False, False)]
    assert os.environ[machine.ONEDNN_VARIABLE] == "0"


def test_a_disturbed_measurement_is_made_again(tune, probe_pool, monkeypatch):
    """On a busy machine at each start, until that is what the machine is like."""
    monkeypatch.setattr(probe_pool, "others", 0.5)
    for number in range(1, PATIENCE + 2):
        (spec,) = tune("light")
        assert len(probe_pool.asked) == min(number, PATIENCE)
        assert (spec.max_batch_size is None) is (number < PATIENCE)
    assert chosen(spec) == (1, 1, True, 8)


def test_more_time_measures_again_what_was_cut_short(tune, probe_pool, monkeypatch):
    """The same time would find the same."""
    monkeypatch.setattr(probe_pool, "complete", False)
    for seconds, times in ((5, 1), (5, 1), (3, 1), (20, 2)):
        tune("heavy", tune_seconds=seconds)
        assert len(probe_pool.asked) == times


@pytest.mark.parametrize(("lasting", "times"), [(True, 1), (False, 2)])
def test_a_model_that_cannot_be_measured(tune, probe_pool, caplog, lasting, times):
    """Its spec stays as it is and the reason is told; it is tried again unless it would fail again."""
    probe_pool.tables["heavy"] = NotMeasurable("no rank", lasting=lasting)
    for _ in range(2):
        assert chosen(tune("heavy")[0]) == (None, None, None, None)
    assert "heavy cannot be tuned: no rank" in caplog.text
    assert len(probe_pool.asked) == times


def test_one_that_cannot_be_measured_does_not_keep_others_from_it(tune, probe_pool):
    """The rest is tuned."""
    probe_pool.tables["light"] = NotMeasurable("no rank")
    light, heavy = tune("light", "heavy")
    assert chosen(light) == (None, None, None, None)
    assert chosen(heavy) == (1, 2, True, 1)


def test_what_another_broker_measured_meanwhile_is_taken(tune, probe_pool, monkeypatch, tmp_path):
    """Whoever waited for the right to measure looks again before measuring."""
    tune("heavy")
    really_find, looks = Records.find, []

    def find_at_the_second_look(self, key):
        looks.append(key)
        return really_find(self, key) if len(looks) > 1 else None

    monkeypatch.setattr(Records, "find", find_at_the_second_look)
    assert chosen(tune("heavy")[0]) == (1, 2, True, 1)
    assert len(probe_pool.asked) == 1


def test_without_a_choice_a_spec_is_as_it_was():
    """Not even copied."""
    spec = ModelSpec("m", "models/m")
    assert filled(spec, None) is spec


def test_the_key_has_all_that_matters(tmp_path, no_switch):
    """Another tag, limit or fixed setting is measured anew; a name, a time-out or a queue is not."""
    (tmp_path / "saved_model.pb").write_bytes(b"\x0a\x05graph")

    def name_of(name: str = "m", **settings: Any) -> str:
        return TunedModel.of(ModelSpec(name, str(tmp_path), **settings), Switch(None, True)).keys[0].file_name

    same = name_of()
    assert name_of("other", timeout=3.0, max_queue_rows=7, max_delay=1.0) == same
    for settings in (
        {"tags": ("serve", "gpu")},
        {"max_batch_size": 8},
        {"allowed_batch_sizes": (1, 64)},
        {"batching": False},
        {"intra_op_threads": 1},
        {"max_concurrency": 1},
        {"caller_thread": True},
    ):
        assert name_of(**settings) != same
    assert TunedModel.of(ModelSpec("m", str(tmp_path)), Switch(True, True)).keys[0].file_name != same


def test_progress_is_told_in_the_log(caplog, monkeypatch):
    """A line every few seconds, not one for each visit."""
    caplog.set_level(logging.INFO, "onesession.tuning")
    now = [0.0]
    monkeypatch.setattr(tuner, "monotonic", lambda: now[0])
    tell = tuner._progress_logger()
    for done in range(1, 11):
        now[0] += 0.5
        tell("digits", RaceProgress(done, 18, 9.6 - done))
    assert [record.getMessage() for record in caplog.records] == [
        "tuning digits: 4 of 18, at most 6 s left",
        "tuning digits: 8 of 18, at most 2 s left",
    ]
