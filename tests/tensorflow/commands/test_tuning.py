"""Tuning for real: probe processes with TensorFlow, the command line, brokers that start with what was found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import worker_client
from benchmarks.models.mlp import mlp_answer
from broker.models.spec import ModelSpec
from broker.tuning import machine
from broker.tuning.choice import choose, choose_onednn
from broker.tuning.experiment import NotMeasurable, ProbePool
from broker.tuning.records import Records, TuningRecord
from broker.tuning.setting import SampleTable
from broker.tuning.tuner import Switch, TunedModel
from tests.brokers import PATIENCE_S, TestBroker, serving, wait_until
from tests.models.saved_models import ROOT
from tests.unit.tuning.tables import table

SECONDS = 1.0


def records(cache: Path) -> list[Path]:
    """Of settings that were measured; what was found of rows stands beside them."""
    return [path for path in cache.glob("*.json") if "-rows-" not in path.name]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch) -> Path:
    """An empty cache folder, for this process and those it starts; nothing else that would fix oneDNN."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(machine.ONEDNN_VARIABLE, "")
    monkeypatch.delenv(machine.ONEDNN_VARIABLE)
    return tmp_path / "cache" / "onesession" / "tuning"


def run(*arguments: str | os.PathLike[str], status: int = 0) -> subprocess.CompletedProcess[str]:
    """`broker ARGUMENTS`, which must end with this status."""
    done = subprocess.run(
        [sys.executable, "-m", "broker", *map(os.fspath, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def described(broker: TestBroker, name: str = "mlp") -> dict[str, Any]:
    from broker.control_plane.query import ask

    found: dict[str, Any] = ask(broker.address, "models")["models"][name]
    return found


def answers(broker: TestBroker, name: str = "mlp") -> bool:
    x = np.random.default_rng(3).normal(size=(5, 128)).astype(np.float32)
    with worker_client.connect(broker.address) as client:
        return np.allclose(client.model(name).predict(x), mlp_answer(x), atol=1e-5)


def remember(path: Path, chosen: str, **by_hand: Any) -> ModelSpec:
    """Have a record say that for this model `chosen` is ten times as good as TensorFlow's default.

    It is for processes that have not loaded TensorFlow, as this one may have.
    """
    spec = ModelSpec("mlp", str(path), **by_hand)
    found = table({"2x1 pool on": (100, [100] * 3), chosen: (10, [1000] * 3)})
    Records().save(TunedModel.of(spec, Switch(None, ours=True)).keys[0], TuningRecord(found))
    return spec


# -- measuring --


def test_a_first_start_measures_and_a_second_one_remembers(cache: Path, mlp_path: Path, capfd):
    """The first says what it does, the second serves with what the record says; both answer right."""
    models = {"mlp": {"source": mlp_path}}
    with serving(models=models, tune="auto", tune_seconds=SECONDS, log_level="info") as broker:
        assert described(broker)["max_concurrency"] == 1
        assert answers(broker)
    (record,) = records(cache)
    told = json.loads(record.read_text())
    assert {entry["setting"]["onednn"] for entry in told["table"]["measured"]} == {True, False}
    assert "tuning mlp: once on this machine" in capfd.readouterr().err
    before = record.stat()
    # What a busy machine disturbed would be measured again: that is another test's matter.
    record.write_text(json.dumps({**told, "busy_times": 0, "complete": True}))
    os.utime(record, ns=(before.st_atime_ns, before.st_mtime_ns))
    with serving(models=models, tune="auto", tune_seconds=SECONDS, log_level="info") as broker:
        found = described(broker)
        assert answers(broker)
    assert "tuning mlp: once on this machine" not in capfd.readouterr().err
    assert record.stat().st_mtime_ns == before.st_mtime_ns
    measured = SampleTable.from_message(told["table"])
    choice = choose(measured, choose_onednn([measured], measured.default.onednn))
    assert choice is not None
    assert found["intra_op_threads"] == choice.setting.intra_op_threads
    assert found["caller_thread"] == choice.setting.caller_thread
    assert found["max_batch_size"] == choice.batch_size or choice.batch_size is None


@pytest.mark.slow
def test_what_is_measured_is_what_was_asked(cache: Path, mlp_path: Path):
    """What is fixed by hand is so in every row, the default's too."""
    by_hand = ("intra_op_threads=1", "caller_thread=true", "max_batch_size=6")
    asked = (*(text for setting in by_hand for text in ("--set", f"m.{setting}")), "--onednn", "on")
    told = json.loads(run("tune", f"m={mlp_path}", *asked, "--seconds", str(SECONDS), "--json").stdout)["m"]
    assert {row["intra_op_threads"] for row in told["measured"]} == {1}
    assert {row["onednn"] for row in told["measured"]} == {True}
    assert {row["caller_thread"] for row in told["measured"]} == {True}
    assert set(told["measured"][0]["rows_per_s"]) <= {"1", "4", "6"}
    assert [row["default"] for row in told["measured"]].count(True) == 1
    assert [row["chosen"] for row in told["measured"]].count(True) == 1
    assert all(row["p50_us"] > 0 for row in told["measured"])


@pytest.mark.slow
def test_a_laboratory_measures_several_models_and_outlives_one_that_fails(
    saved_models: dict[str, Path], cache: Path
):
    """One that cannot be run on zeros, one that is killed, then one that can be measured."""
    with ProbePool(True, both=False, weights=0) as laboratory:
        shapes = ModelSpec("shapes", str(saved_models["shapes"]))
        with pytest.raises(NotMeasurable, match="the rank of input x is unknown") as caught:
            laboratory.measure(shapes, saved_models["shapes"], SECONDS)
        assert caught.value.lasting
        mlp = ModelSpec("mlp", str(saved_models["mlp"]))
        for probe in psutil.Process().children():
            if "broker.tuning" in " ".join(probe.cmdline()):
                probe.kill()
        with pytest.raises(NotMeasurable, match="ended with status -9") as caught:
            laboratory.measure(mlp, saved_models["mlp"], SECONDS)
        assert not caught.value.lasting
        measured = laboratory.measure(mlp, saved_models["mlp"], SECONDS)
    assert measured.table.default in measured.table.settings
    assert measured.what == "serving_default(x: float32[?, 128]) -> (y: float32[?, 10])"


@pytest.mark.slow
def test_a_model_that_cannot_be_measured_is_served_all_the_same(
    cache: Path, saved_models: dict[str, Path], capfd
):
    """The reason is told, and remembered."""
    models = {"shapes": {"source": saved_models["shapes"]}}
    with serving(models=models, tune="auto", tune_seconds=SECONDS, onednn="on") as broker:
        assert described(broker, "shapes")["light"] is False
    why = "signature any_rank: the rank of input x is unknown"
    assert f"shapes cannot be tuned: {why}" in capfd.readouterr().err
    (record,) = records(cache)
    told = json.loads(record.read_text())
    assert (told["table"], told["note"]) == (None, why)


# -- what is remembered --


CODE = """
import sys
from broker.models.lifecycle.repository import load
from broker.models.spec import ModelSpec
from broker.config.settings import Settings
from broker.tuning.tuner import tuned
assert "tensorflow" not in sys.modules
specs = tuned(Settings(models=(ModelSpec("mlp", sys.argv[1]),), tune="remembered"))
assert "tensorflow" not in sys.modules
models = load(specs)
from broker.models.sources import session
entry = models.entry("mlp")
print(models.describe()["mlp"]["onednn"], entry.model.intra_op_threads, entry.max_concurrency,
      entry.max_batch_size, models.describe()["mlp"]["caller_thread"])
models.close()
"""


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ("1x2 caller on", "True 1 2 1 True"),
        pytest.param("3x1 pool off", "False 3 1 1 False", marks=pytest.mark.slow),
        ("3x1 caller off", "False 3 1 1 True"),
    ],
)
def test_what_is_remembered_takes_effect(cache: Path, mlp_path: Path, chosen: str, told: str):
    """In the process that loads the model: oneDNN, threads, runs side by side, batches, place."""
    remember(mlp_path, chosen)
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(mlp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == told


EMBEDDED = """
import sys
import worker_client
from broker import Broker
from broker.control_plane.query import ask

def work():
    with worker_client.connect() as client:
        found = ask(None, "models")["models"]["mlp"]
    print(found["intra_op_threads"], found["max_concurrency"], found["caller_thread"], "tensorflow" in sys.modules)

broker = Broker(models={"mlp": sys.argv[1]}, name=sys.argv[2], tune="auto")
assert "tensorflow" not in sys.modules
broker.run_workers(work, processes=1)
from broker.models.tf import runtime
print(runtime.onednn_enabled())
"""


@pytest.mark.slow
def test_a_broker_around_its_workers_takes_what_is_remembered(cache: Path, mlp_path: Path, tmp_path: Path):
    """`run_workers` serves from the calling process, which is tuned like any other broker; its workers stay without."""
    remember(mlp_path, "3x2 pool off")
    done = subprocess.run(
        [sys.executable, "-c", EMBEDDED, str(mlp_path), str(tmp_path / "b.sock")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["3 2 False False", "False"], done.stderr


@pytest.mark.slow
def test_what_is_set_by_hand_goes_first(cache: Path, mlp_path: Path):
    """A broker takes from the record only what it was not told."""
    by_hand = {"intra_op_threads": 2, "max_batch_size": 32}
    remember(mlp_path, "2x2 caller on", **by_hand)
    models = {"mlp": {"source": mlp_path, **by_hand}}
    with serving(models=models, tune="remembered", onednn="auto") as broker:
        found = described(broker)
        assert answers(broker)
    assert (found["intra_op_threads"], found["max_batch_size"], found["max_concurrency"]) == (2, 32, 2)


@pytest.mark.slow
def test_a_broken_record_is_measured_again(cache: Path, mlp_path: Path, capfd):
    """The broker starts, says so, and writes it anew."""
    remember(mlp_path, "1x1 caller on")
    (record,) = records(cache)
    record.write_text(record.read_text()[:100])
    with serving(models={"mlp": {"source": mlp_path}}, tune="auto", tune_seconds=SECONDS) as broker:
        assert answers(broker)
    assert f"{record} cannot be read and is measured again" in capfd.readouterr().err
    assert json.loads(record.read_text())["table"]["measured"]


@pytest.mark.slow
def test_a_cache_that_cannot_be_written(mlp_path: Path, tmp_path: Path, cache: Path, monkeypatch, capfd):
    """The broker measures, says that it cannot remember, and serves."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    options = {"tune": "auto", "tune_seconds": SECONDS, "onednn": "on"}
    with serving(models={"mlp": {"source": mlp_path}}, **options) as broker:
        assert described(broker)["intra_op_threads"] in (1, len(os.sched_getaffinity(0)))
        assert answers(broker)
    assert "the measurements cannot be saved" in capfd.readouterr().err


# -- the command line --


def test_tune_prints_writes_and_forgets(cache: Path, mlp_path: Path, tmp_path: Path):
    """The table, the configuration file, the record; `--forget` drops the record."""
    config = tmp_path / "broker.toml"
    config.write_text("# ours\n")
    done = run("tune", mlp_path, "--seconds", str(SECONDS), "--write", config)
    assert "mlp" in done.stdout
    for title in ("threads", "runs", "oneDNN", "p50", "TensorFlow's defaults"):
        assert title in done.stdout
    text = config.read_text()
    assert text.startswith("# ours\n")
    for line in (
        "[models.mlp]",
        f'source = "{mlp_path}"',
        "intra_op_threads = ",
        "caller_thread = ",
        "onednn = ",
    ):
        assert line in text
    assert len(records(cache)) == 1
    assert (
        run("tune", mlp_path, "--forget").stdout == "mlp: 2 records dropped\n"
    )  # and what was found of its rows
    assert records(cache) == []
    assert run("tune", mlp_path, "--forget").stdout == "mlp: 0 records dropped\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["broker.models.python.echo:echo"], "is a Python callable"),
        (
            ["m=/no/such/model"],
            "model 'm' from '/no/such/model' cannot be loaded: /no/such/model does not exist",
        ),
        (["a=x", "a=y"], "two models are called 'a'"),
        (["m=x", "--set", "m.nope=1"], "there is no setting 'nope'"),
    ],
    ids=["callable", "missing", "twice", "setting"],
)
def test_tune_refuses(cache: Path, arguments: list[str], said: str):
    """In one line, before anything is measured."""
    done = run("tune", *arguments, status=1 if arguments == ["m=/no/such/model"] else 2)
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_tune_says_what_cannot_be_measured(cache: Path, saved_models: dict[str, Path]):
    """With the reason, and status 1."""
    done = run("tune", saved_models["shapes"], "--onednn", "on", status=1)
    assert "shapes could not be measured: signature any_rank: the rank of input x is unknown" in done.stderr


# -- the end, while measuring --


@pytest.fixture
def measuring(
    cache: Path, mlp_path: Path, tmp_path: Path
) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """`onesession serve`, which has begun to measure, and its probes."""
    command = ["serve", "--tune", "--tune-seconds", "300", "--model", f"mlp={mlp_path}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", *command, "--name", str(tmp_path / "b.sock")],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "tuning mlp: " in line:
                break
        probes = psutil.Process(process.pid).children()
        assert len(probes) == 2
        yield process, probes
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_stop_while_measuring(measuring: tuple[subprocess.Popen[str], list[psutil.Process]]):
    """A signal ends it in order, and the probes with it."""
    process, probes = measuring
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    assert not any(probe.is_running() for probe in probes)


@pytest.mark.slow
def test_a_broker_killed_while_measuring(measuring: tuple[subprocess.Popen[str], list[psutil.Process]]):
    """Its probes end by themselves, in the middle of a run."""
    process, probes = measuring
    process.kill()
    process.wait(PATIENCE_S)
    wait_until(lambda: not any(alive(probe) for probe in probes), "the end of the probes")


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
