"""`python -m benchmarks`: that it measures what it says, not how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from benchmarks import machine, sampling
from benchmarks.__main__ import main
from benchmarks.figures import Figure
from benchmarks.harness.arm import Arm, ArmFailed
from benchmarks.harness.host import affinity
from benchmarks.harness.rounds import RoundPlan, run_rounds
from benchmarks.latency import echo
from benchmarks.sampling import LatencyWindow, Series, Spread
from benchmarks.workloads import ROWS
from tests.brokers import wait_until

TINY = RoundPlan(rounds=2, calls=20, seed=1)
STALE = Arm(
    "stale", "gives another input's answer", "tests.process.wrong_arm:stale", "mlp", {"after": ROWS + 5}
)
ECHO_ARMS = {
    *(f"broker_{mode}" for mode in ("adaptive", "poll", "block")),
    "ping_pong_poll",
    "ping_pong_block",
    "pipe",
    "unix_socket",
}
PINNED_ARMS = {"broker_block_two_cores", "ping_pong_block_two_cores"} if affinity.TWO_CORES else set()


@pytest.fixture(autouse=True)
def same_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command hides the GPU from what it starts; not from the rest of this run."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    return result.exit_code, result.output


@pytest.mark.slow
def test_latency_writes_every_arm_with_its_checked_answers(tmp_path: Path) -> None:
    """The JSON has the machine, the options and each arm's percentiles, and says that every answer was checked."""
    path = tmp_path / "latency.json"
    status, output = run(
        "latency",
        "--only",
        "T2",
        "--only",
        "T4",
        "--rounds",
        "2",
        "--calls",
        "40",
        "--seed",
        "5",
        "--json",
        str(path),
    )
    assert status == 0, output
    document = json.loads(path.read_text())
    assert document["options"] == {"rounds": 2, "calls": 40, "idle_seconds": 5.0, "seed": 5}
    assert {"cpu", "cores", "kernel", "python", "tensorflow", "numpy", "commit"} <= document["machine"].keys()
    targets = document["targets"]
    assert targets.keys() == {"T2", "T4"}
    assert targets["T2"]["arms"].keys() == ECHO_ARMS | PINNED_ARMS
    for arm in targets["T2"]["arms"].values():
        assert arm["samples"] == arm["answers_checked"] == 2 * 40
        assert 0 < arm["p50_us"]["median"] <= arm["p90_us"]["median"] <= arm["p99_us"]["median"]
        assert len(arm["windows"]) == 2
    for arm in targets["T4"]["arms"].values():
        assert arm["samples"] == arm["answers_checked"] == 2 * 10
    assert targets["T2"]["figures"][0]["target"] == 12.0


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_latency_runs_all_targets(tmp_path: Path) -> None:
    """With TensorFlow in it: in-process sessions, forked workers, the idle broker."""
    path = tmp_path / "latency.json"
    status, output = run(
        "latency", "--rounds", "1", "--calls", "50", "--idle-seconds", "0.2", "--json", str(path)
    )
    assert status == 0, output
    targets = json.loads(path.read_text())["targets"]
    assert list(targets) == ["T1", "T2", "T4", "T6", "T9"]
    for target in targets.values():
        for arm in target["arms"].values():
            assert arm["samples"] == arm["answers_checked"] > 0
        assert all(figure["value"] is not None for figure in target["figures"])


def test_a_wrong_answer_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wrong answer, once the arm has started well, and there are no figures: exit status 1, the arm named."""
    monkeypatch.setattr(echo, "arms", lambda addresses: [STALE])
    path = tmp_path / "latency.json"
    status, output = run("latency", "--only", "T2", "--rounds", "1", "--calls", "50", "--json", str(path))
    assert status == 1
    assert "the arm 'stale' failed" in output
    assert "WrongAnswer: input" in output
    assert not path.exists()


def test_an_arm_that_dies_ends_the_run() -> None:
    """Its last words are in the error."""
    arm = Arm("gone", "is not there", "tests.process.wrong_arm:not_there", "mlp")
    with pytest.raises(ArmFailed, match="(?s)the arm 'gone' failed.*has no attribute 'not_there'"):
        run_rounds([arm], TINY, lambda done, total, what: None)


def test_profile_counts_the_calls_of_both_sides(tmp_path: Path) -> None:
    """The lists begin with the caller's call and reach the model; the stages add up to about the whole."""
    path = tmp_path / "profile.json"
    status, output = run(
        "profile", "--model", "echo", "--wait", "block", "--calls", "50", "--json", str(path)
    )
    assert status == 0, output
    document = json.loads(path.read_text())
    worker, broker = document["calls"]["worker"], document["calls"]["broker"]
    assert worker[0]["name"].endswith("predict")
    assert any(call["name"] == "echo" for call in broker)
    assert broker[-1]["name"] == "Semaphore.release"
    assert len(document["stages_us"]) == 7


def test_ratios_are_taken_within_each_round() -> None:
    """A machine that gets twice as slow between two rounds changes no ratio."""
    one = Series(
        "one", "", [LatencyWindow(100, 0, 0, 1), LatencyWindow(200, 0, 0, 1), LatencyWindow(400, 0, 0, 1)]
    )
    other = Series(
        "other", "", [LatencyWindow(50, 0, 0, 1), LatencyWindow(100, 0, 0, 1), LatencyWindow(200, 0, 0, 1)]
    )
    assert sampling.ratio(one, other) == Spread(2.0, 2.0, 2.0)


def test_percentiles_are_samples_of_nearest_rank() -> None:
    """Of 1 to 101, the middle is 51; no percentile lies outside the samples."""
    window = LatencyWindow.of(list(range(101, 0, -1)))
    assert window == LatencyWindow(51, 91, 100, 101, longest_ns=101)
    assert LatencyWindow.of([7]).p99_ns == 7


@pytest.mark.parametrize(("value", "reached"), [(0.19, True), (0.2, True), (0.21, False)])
def test_a_target_is_an_upper_bound(value: float, reached: bool) -> None:
    """Reached at the bound; no verdict where there is no bound."""
    figure = Figure("ratio", Spread(value, value, value), "x", 0.2)
    assert figure.reached is reached
    assert figure.stretch_reached is None


def test_only_code_counts_as_uncommitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that follows another, whose results lie in the tree, is still one of its commit."""
    published = tmp_path / "benchmarks" / "published"
    published.mkdir(parents=True)
    (code, result) = tmp_path / "code.py", published / "result.json"
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for path in (code, result):
        path.write_text("1")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True, timeout=60)
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    result.write_text("2")
    assert machine.describe()["uncommitted_changes"] is False
    code.write_text("2")
    assert machine.describe()["uncommitted_changes"] is True


ORPHAN = """
import os, time
if os.fork() == 0:
    while time.process_time() < 0.3:
        pass
    os._exit(0)
"""


def test_what_orphans_took_counts_as_ours() -> None:
    """A server that is killed leaves workers which nobody waits for: their CPU time is not somebody else's load."""
    load, before = machine.OtherLoad(), machine.own_s()
    others = psutil.Process().children()
    subprocess.run([sys.executable, "-c", ORPHAN], timeout=60, check=True)
    (orphan,) = [child for child in psutil.Process().children() if child not in others]
    wait_until(lambda: orphan.status() == psutil.STATUS_ZOMBIE, "its end")
    load.share()
    assert machine.own_s() - before > 0.25
    assert orphan not in psutil.Process().children()
