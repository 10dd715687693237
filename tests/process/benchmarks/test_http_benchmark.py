"""`python -m benchmarks http` and `memory`: that they measure what they say, with real servers and real requests."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import workloads
from benchmarks.__main__ import main
from benchmarks.harness.arm import Arm, ArmFailed
from benchmarks.harness.interleaved import Pace, WorkersProcess
from benchmarks.http import comparison, exchange, starts
from benchmarks.http.contenders import KINDS, Setup, arm, missing
from benchmarks.http.exchange import BadAnswer
from benchmarks.http.starts import Starts
from benchmarks.sampling import Spread

WORKERS, CONNECTIONS = 2, 3
PACE = Pace(seconds=0.2, warm_up_s=0.05, most=1, seed=1)


@pytest.fixture
def setup() -> Iterator[Setup]:
    """Without a model: for apps that need none."""
    with tempfile.TemporaryDirectory(prefix="onesession-bench-") as directory:
        yield Setup(WORKERS, CONNECTIONS, directory, "no model", "off")


def test_an_arm_is_a_real_server(setup: Setup) -> None:
    """The app without a model: its start, each worker's first answer, its memory, and a window of load."""
    crew = WorkersProcess(arm("bare", setup), PACE.seed)
    try:
        facts = crew.await_ready()["facts"]
        assert facts["start_s"] > 0
        assert len(facts["first_answers_ms"]) == WORKERS
        assert min(facts["first_answers_ms"]) > 0
        assert facts["memory_mb"] == pytest.approx(
            WORKERS * facts["worker_mb"] + sum(facts["others_mb"]), rel=0.05
        )
        assert facts["warm_up_checked"] >= 50 * WORKERS
        window, checked = crew.rate(PACE)
        assert window.latency.samples > 0
        assert checked >= window.latency.samples
        assert 0 < window.latency.p50_ns <= window.latency.p99_ns < 1e9 * PACE.seconds * CONNECTIONS
    finally:
        crew.stop()


@pytest.mark.slow
def test_a_wrong_answer_ends_the_run(setup: Setup) -> None:
    """An app that does not give the model's answers has no figures."""
    bare = arm("bare", setup)
    wrong = Arm(bare.name, bare.label, bare.factory, "mlp", bare.options)
    crew = WorkersProcess(wrong, PACE.seed)
    try:
        with pytest.raises(ArmFailed, match="WrongAnswer: input 0"):
            crew.await_ready()
    finally:
        crew.stop()


ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 48\r\n\r\n{"y": [1.5, 2], "pid": 7, "first_answer_ms": 0.5}'


def test_an_answer_is_whole_when_its_last_byte_is_there() -> None:
    """Which is what the clock stops at, whenever the server closes the connection."""
    length = len(ANSWER) - ANSWER.index(b"{")
    answer = ANSWER.replace(b"48", str(length).encode())
    assert exchange.is_whole(answer)
    assert not any(exchange.is_whole(answer[:size]) for size in range(len(answer)))
    parsed = exchange.parse(answer)
    assert (parsed.y.tolist(), parsed.y.dtype, parsed.pid, parsed.first_answer_ms) == (
        [[1.5, 2.0]],
        np.float32,
        7,
        0.5,
    )


@pytest.mark.parametrize(
    "raw", [b"", b"HTTP/1.1 500 Oh\r\n\r\nno", b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"]
)
def test_an_error_is_no_answer(raw: bytes) -> None:
    """Nor is a connection that was closed."""
    with pytest.raises(BadAnswer):
        exchange.parse(raw)


def test_numbers_survive_json() -> None:
    """What the app reads are the very float32 that the expected answers were made for."""
    (x, *_) = workloads.make("mlp", 1).inputs
    body = exchange.request(x).partition(b"\r\n\r\n")[2]
    np.testing.assert_array_equal(np.array([json.loads(body)["x"]], np.float32), x)


def test_starts_are_compared_within_each_round() -> None:
    """A machine that gets slower meets both; the medians go into the tables."""
    one = Starts(ARM, [{"memory_mb": 10, "start_s": 1.0}, {"memory_mb": 20, "start_s": 2.0}])
    other = Starts(ARM, [{"memory_mb": 20, "start_s": 2.0}, {"memory_mb": 40, "start_s": 4.0}])
    assert starts.ratio(one, other, "memory_mb") == Spread(0.5, 0.5, 0.5)
    assert starts.ratio(one, other, "start_s") == Spread(0.5, 0.5, 0.5)
    assert one.facts["memory_mb_median"] == 15


ARM = Arm("one", "One", "nowhere:nothing", "mlp")


# --- everything, with TensorFlow in it ---


def run(command: str, path: Path) -> dict[str, Any]:
    result = CliRunner().invoke(main, [command, "--quick", "--json", str(path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(path.read_text())
    return found["targets"]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_http_runs_every_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that can run here, answers checked; the figures of T14 in the order of the targets."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    t14 = run("http", tmp_path / "http.json")["T14"]
    assert t14["arms"].keys() == {kind for kind in KINDS if missing(kind) is None}
    for found in t14["arms"].values():
        assert found["answers_checked"] >= found["samples"] > 0
        assert found["memory_mb_median"] > 0
        assert found["start_s_median"] > 0
    labels = [figure["label"] for figure in t14["figures"]]
    assert labels[:3] == [f"{what}: broker / sessions" for what in ("requests/s", "p99", "memory")]
    assert len(labels) == 5 * len(set(comparison.OTHERS) & t14["arms"].keys())


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_memory_has_the_whole_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T5 and T6 from the same starts."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    targets = run("memory", tmp_path / "memory.json")
    assert targets.keys() == {"T5", "T6"}
    values = {figure["label"]: figure["value"] for figure in targets["T5"]["figures"]}
    assert 0 < values["a worker: no model"] < values["a worker: broker"]
    assert values["a worker: broker"] < values["a worker: a session in each worker"]
    assert targets["T6"]["arms"]["broker"]["samples"] == 2
