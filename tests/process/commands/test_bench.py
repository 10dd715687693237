"""`onesession bench` as users start it: a broker of its own or one that runs, real workers, checked answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from broker.cli.bench import bench as command
from tests import brokers
from tests.brokers import TestBroker, serving
from tests.commands import commands

MODELS = "tests.process.bench_models"
SHORT = ("--window", "0.1", "--windows", "3")


@pytest.fixture
def place() -> Iterator[Path]:
    with brokers.folder() as path:
        yield path


@pytest.fixture
def bench(place: Path) -> Iterator[Any]:
    """`bench(words)`: exit status, stdout, stderr."""
    with commands(place) as start:
        yield lambda *words: start("bench", *words).end()


@pytest.fixture(scope="module")
def running() -> Iterator[TestBroker]:
    with serving(models={"double": f"{MODELS}:double"}) as broker:
        yield broker


def test_a_sweep_measures_every_case_beside_the_model_in_each_worker(bench: Any, tmp_path: Path) -> None:
    """Each arm has every number of workers and rows, all answers right, and report and JSON are written."""
    folder = tmp_path / "out"
    status, out, err = bench(
        f"double={MODELS}:double",
        *SHORT,
        *(
            "--workers",
            "2",
            "--rows",
            "1,3",
            "--compare",
            "bare",
            "--seed",
            "5",
            "--no-plots",
            "-o",
            str(folder),
        ),
    )
    assert status == 0, err
    assert "seed 5; 2 cases" in err
    told = json.loads((folder / "bench.json").read_text())
    assert (told["seed"], told["model"]) == (5, "double")
    assert {(each["arm"], each["workers"], each["rows"]) for each in told["measured"]} == {
        (arm, 2, rows) for arm in ("broker", "bare") for rows in (1, 3)
    }
    for each in told["measured"]:
        assert each["requests_per_s"] > 0
        assert each["samples"] > 0
        assert each["answers_checked"] > 0
        assert each["cpu_s_per_1000"] > 0
        assert each["memory_bytes"] > 0
        assert each["failures"] == {}
        assert each["latency_us"]["p50"] <= each["latency_us"]["p99"] <= each["latency_us"]["p100"]
        assert bool(each["stages_us"]) == (each["arm"] == "broker")
    page = (folder / "report.md").read_text()
    assert "in process: bare callable" in page
    assert "Where the time of a call goes" in page
    assert [path.name for path in folder.glob("*.png")] == []
    assert "Requests and latency" in out


def test_a_running_broker_is_measured_at_a_rate_and_one_that_cannot_be_reached_is_told(
    bench: Any, running: TestBroker
) -> None:
    """The open loop: a low rate is kept, an absurd one is told in the table; threads share a worker."""
    status, out, err = bench(
        "double",
        *("--name", running.address, *SHORT, "--workers", "2", "--rows", "1"),
        *("--rate", "200,900000", "--arrivals", "constant", "--concurrency", "2", "--json"),
    )
    assert status == 0, err
    told = json.loads(out)
    assert told["checked_against"] == "the broker, asked alone"
    low, high = told["measured"]
    assert (low["load"]["rate"], low["load"]["concurrency"], low["stages_us"]["late"] >= 0) == (200, 2, True)
    assert low["samples"] == 60  # not one of the planned requests is missing
    assert not high["rate_reached"]
    assert high["unsent"] > 0


def test_a_running_broker_with_another_model_is_found_out(bench: Any, running: TestBroker) -> None:
    """What `NAME=SOURCE` answers in process is what the broker must answer."""
    status, _, err = bench(
        f"double={MODELS}:of_its_process", "--name", running.address, *SHORT, "--workers", "1", "--rows", "1"
    )
    assert status == 1
    assert "input 1 of 8: output 'y' at [0, 0]" in err


def test_a_model_that_answers_at_random_is_told_what_to_do(bench: Any) -> None:
    status, _, err = bench(f"{MODELS}:at_random", *SHORT, "--workers", "1", "--rows", "1")
    assert status == 1
    assert "asked twice in one process" in err
    assert "--no-check" in err


def test_what_does_not_fit_the_model_is_told_before_anything_is_measured(bench: Any, place: Path) -> None:
    """An input of another type, a way to call it that the model does not have: what was expected, and the remedy."""
    np.savez(place / "wrong.npz", x=np.ones((2, 4)))
    for words, told in (
        (
            ("--input", str(place / "wrong.npz")),
            "wants dtype float32, got float64; store it with .astype('float32')",
        ),
        (("--compare", "session"), "is a Python function"),
    ):
        status, out, err = bench(f"{MODELS}:double", *words, *SHORT, "--workers", "1")
        assert (status, out) == (2, ""), words
        assert told in err
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["models/nowhere"], 2, "there is no model at 'models/nowhere'"),
        (["nothing", "--name", "HERE"], 1, "has no model 'nothing'; it serves double"),
        (
            ["double", "--name", "HERE", "--signature", "other"],
            1,
            "has no signature 'other'; it has serving_default",
        ),
        (["double", "--name", "/nowhere/b.sock"], 1, "no broker answers at /nowhere/b.sock"),
        (["double", "--name", "HERE", "--compare", "bare"], 2, "write double=SOURCE"),
        (["double", "--name", "HERE", "--shape", "x:3"], 2, "expected INPUT=SIZES"),
    ],
)
def test_what_is_not_there_is_told(
    running: TestBroker, monkeypatch: pytest.MonkeyPatch, words: list[str], status: int, told: str
) -> None:
    """An unknown model, signature or broker: the remedy, and status 2 where the command was given wrongly."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which the command adds
    result = CliRunner().invoke(command, [running.address if word == "HERE" else word for word in words])
    assert result.exit_code == status
    assert told in result.output
