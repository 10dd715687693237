"""`python -m benchmarks throughput`: that it measures what it says with every arm, not how fast anything is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from benchmarks import rates, workloads
from benchmarks.__main__ import main
from benchmarks.commands.throughput import BY_DEFAULT
from benchmarks.figures import Figure
from benchmarks.harness.arm import Arm
from benchmarks.harness.worker_loop import count
from benchmarks.machine import ROOT
from benchmarks.rates import RateSeries, RateWindow
from benchmarks.sampling import LatencyWindow, Spread
from benchmarks.throughput import contenders, small
from benchmarks.throughput.broker_facts import batches
from benchmarks.throughput.neighbour import UNEVEN
from benchmarks.workloads import ROWS, Checker, Workload
from broker.bench.answers import WrongAnswer

WRONG = "tests.process.wrong_arm:stale"


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["throughput", *arguments], catch_exceptions=False)
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `--quick` writes: every target and every kind of arm, each in one short window."""
    path = tmp_path_factory.mktemp("throughput") / "quick.json"
    status, output = run("--quick", "--json", str(path))
    assert status == 0, output
    found: dict[str, Any] = json.loads(path.read_text())
    return found


# The first test that asks for the document waits for all of it.
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_quick_runs_every_target_and_arm(document: dict[str, Any]) -> None:
    """Machine, options, and all targets; of T3 every kind of arm that can run here, but two that are like others."""
    assert document["command"] == "throughput"
    assert {"cpu", "cores", "tensorflow", "commit"} <= document["machine"].keys()
    assert document["options"]["workers"] == [2]
    targets = document["targets"]
    assert list(targets) == list(BY_DEFAULT)
    kinds = {arm["arm"] for arm in targets["T3"]["arms"].values()}
    wanted = {*small.COMPARED, *small.QUICK_ASIDE}
    assert kinds == {kind for kind in wanted if contenders.missing(kind) is None}
    assert targets["T7"]["arms"].keys() == {"broker", "sessions", "by_hand_1"}
    assert targets["T8"]["arms"].keys() == {"beside_a_process", "in_one_broker", *UNEVEN}
    assert targets["waiting"]["arms"].keys() == {f"head-{mode}-2" for mode in ("adaptive", "poll", "block")}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_arm_tells_rate_times_cpu_and_checked_answers(document: dict[str, Any]) -> None:
    """No arm has a figure without answers that were checked, in a window and in all."""
    for target in document["targets"].values():
        for arm in target["arms"].values():
            assert arm["per_s"]["median"] > 0
            assert 0 < arm["p50_us"]["median"] <= arm["p99_us"]["median"]
            assert arm["cpu_s_per_1000"]["median"] > 0
            assert len(arm["windows"]) == 1
            assert arm["stable"] is False
            assert arm["answers_checked"] >= arm["samples"] > 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_broker_tells_its_batches(document: dict[str, Any]) -> None:
    """Rows and runs; two workers never wait with more than two rows."""
    arms = document["targets"]["T3"]["arms"].values()
    brokers = [arm for arm in arms if arm["arm"] in ("broker", "broker_own")]
    assert len(brokers) == 2
    for broker in brokers:
        assert set(broker["batch_rows"]) <= {"1", "2"}
        assert sum(broker["batch_rows"].values()) > 0
        assert broker["models"]["mlp"]["intra_op_threads"] == 1


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_heavy_model_runs_beside_the_light_one(document: dict[str, Any]) -> None:
    """In both places it answers, too."""
    arms = document["targets"]["T8"]["arms"]
    assert arms["in_one_broker"]["beside_per_s"]["median"] > 0
    assert arms["beside_a_process"]["beside_per_s"]["median"] > 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_figures_say_which_way_their_target_lies(document: dict[str, Any]) -> None:
    """Rates are to be at least so many times others, times at most."""
    targets = document["targets"]
    assert {figure["bound"] for figure in targets["T3"]["figures"]} == {"at least"}
    assert [figure["target"] for figure in targets["T3"]["figures"]] == [8.0, 1.1, None, None]
    assert [figure["target"] for figure in targets["T7"]["figures"]] == [1.7, 0.95, None, None]
    assert (targets["T8"]["figures"][0]["bound"], targets["T8"]["figures"][0]["target"]) == ("at most", 3.0)


@pytest.mark.slow
def test_one_target_alone_is_measured_and_written(tmp_path: Path) -> None:
    """The three ways of waiting, each with checked answers, a rate, times and the CPU they took."""
    path = tmp_path / "waiting.json"
    status, output = run("--quick", "--target", "waiting", "--json", str(path))
    assert status == 0, output
    (target,) = json.loads(path.read_text())["targets"].values()
    assert target["arms"].keys() == {f"head-{mode}-2" for mode in ("adaptive", "poll", "block")}
    for arm in target["arms"].values():
        assert arm["per_s"]["median"] > 0
        assert 0 < arm["p50_us"]["median"] <= arm["p99_us"]["median"]
        assert arm["answers_checked"] >= arm["samples"] > 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_company_and_rhythm_run_when_asked_for(tmp_path: Path) -> None:
    """Every arm in every surroundings, and in a web server's rhythm."""
    path = tmp_path / "throughput.json"
    status, output = run("--quick", "--target", "company,rhythm", "--json", str(path))
    assert status == 0, output
    targets = json.loads(path.read_text())["targets"]
    assert len(targets["company"]["arms"]) == 3 * 5
    assert len(targets["rhythm"]["arms"]) == 3
    for target in targets.values():
        assert all(arm["answers_checked"] >= arm["samples"] > 0 for arm in target["arms"].values())


@pytest.mark.slow
def test_a_wrong_answer_of_one_worker_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once all have started well: no figures, exit status 1, the arm named."""
    options = {"workers": 2, "factory": WRONG, "options": {"after": ROWS + 5}}
    stale = Arm(
        "stale", "gives another input's answer", "benchmarks.arms.several_workers.each:each", "mlp", options
    )
    monkeypatch.setattr(small, "arms", lambda *_: [stale])
    path = tmp_path / "throughput.json"
    status, output = run("--quick", "--target", "T3", "--json", str(path))
    assert status == 1
    assert "the arm 'stale' failed" in output
    assert "WrongAnswer: input" in output
    assert not path.exists()


@pytest.fixture
def killed_run() -> Iterator[list[psutil.Process]]:
    """The processes of a run that was killed in the middle. Its files, which nobody removes then, go, too."""
    command = [sys.executable, "-m", "benchmarks", "throughput", "--quick", "--target", "waiting"]
    with tempfile.TemporaryDirectory(prefix="onesession-killed-") as directory:
        environment = {**os.environ, "TMPDIR": directory}
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, env=environment)
        try:
            family = _family_with_brokers(process)
        finally:
            process.kill()
            process.wait()
        yield family


def test_a_killed_run_leaves_no_process(killed_run: list[psutil.Process]) -> None:
    """Brokers, crews and their workers end by themselves."""
    gone, alive = psutil.wait_procs(killed_run, timeout=30)
    assert not alive
    assert len(gone) > 3


def _family_with_brokers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """All below it, once there are workers below crews."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit and process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
        if len(family) > 3:
            return family
        time.sleep(0.05)
    raise AssertionError("no crew has started its workers")


def test_an_arm_that_cannot_run_here_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyzmq there is no ZeroMQ arm, and the reason says what to install."""
    monkeypatch.setitem(sys.modules, "zmq", None)
    assert "pip install pyzmq" in (contenders.missing("zeromq") or "")
    place = contenders.ModelPlace("model", "directory")
    names = {arm.facts["arm"] for arm in small.arms(small.ASIDE, 2, place, all_threads=True)}
    assert names == set(small.ASIDE) - {"zeromq"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--target", "T3,T4"), "no target T4; there are T3, T7, T8, waiting"),
        (("--workers", "1,0"), "'1,0' is not a list of integers such as 1,8"),
        (("--workers", "many"), "'many' is not a list of integers such as 1,8"),
    ],
)
def test_options_that_cannot_be_are_told(arguments: tuple[str, ...], said: str) -> None:
    """Before anything is started."""
    status, output = run(*arguments)
    assert status == 2
    assert said in " ".join(output.replace("│", " ").split())


# --- arithmetic ---


def series(name: str, *per_s: float) -> RateSeries:
    windows = [RateWindow(rate, LatencyWindow(1, 2, 3, 4), cores=0.5) for rate in per_s]
    return RateSeries(name, name, windows=windows)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([100, 100], False),
        ([50, 100, 105, 110], True),
        ([100, 105, 116], False),
        ([100, 105, 116, 110, 108], True),
    ],
)
def test_stable_means_the_last_three_are_within_a_tenth(values: list[float], expected: bool) -> None:
    """What came before does not count; fewer than three windows never do."""
    assert series("any", *values).stable is expected


def test_the_best_is_chosen_by_its_median() -> None:
    """One lucky window makes no arm the best; the ratio to it is taken within each round."""
    lucky, steady = series("lucky", 10, 10, 99), series("steady", 20, 40, 20)
    assert rates.best(lucky, steady) is steady
    assert rates.ratio(series("ours", 10, 20, 10), steady) == Spread(0.5, 0.5, 0.5)


def test_the_best_of_several_is_chosen_by_other_rounds_than_it_is_compared_in() -> None:
    """Each was better in one half of the rounds: beside the other's rounds nobody profits from his own luck."""
    even, odd = series("even", 20, 10, 20, 10), series("odd", 10, 20, 10, 20)
    assert rates.beside_best(series("ours", 15, 15, 15, 15), even, odd) == Spread(1.5, 1.5, 1.5)
    assert rates.beside_best(series("ours", 15, 15, 15, 15), even) == Spread(1.125, 0.75, 1.5)
    assert rates.beside_best(series("ours", 15), odd) == Spread(1.5, 1.5, 1.5)


def test_cpu_is_per_thousand_answers() -> None:
    """Half a core at 250 answers a second: two CPU seconds for a thousand."""
    assert series("one", 250).windows[0].cpu_s_per_1000 == 2.0


@pytest.mark.parametrize(("value", "reached"), [(7.9, False), (8.0, True), (8.1, True)])
def test_a_target_can_be_a_lower_bound(value: float, reached: bool) -> None:
    """Reached at the bound and above."""
    figure = Figure("ratio", Spread(value, value, value), "x", 8.0, at_least=True)
    assert figure.reached is reached
    assert figure.stretch_reached is None


def test_batches_are_told_by_their_share() -> None:
    """Sizes of less than a fiftieth of the runs are left to the JSON."""
    assert batches({1: 50, 2: 49, 8: 1}) == "1.6 rows a run; 1 row 50%, 2 rows 49%"
    assert batches({}) == "no runs were counted"


def answers_at(*ended_ns: int, wrong: int = -1) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """An answer at each time, begun 10 ns before; the one at `wrong` is not what is expected."""
    for ended in ended_ns:
        yield 0, ended - 10, ended, np.array([ended == wrong], np.float32)


ZERO = Workload("zero", [np.zeros(1, np.float32)], [np.zeros(1, np.float32)])


def test_a_window_counts_what_is_answered_in_it() -> None:
    """Four answers between 100 and 200: the time they took is from the last one before to the last one in it."""
    found = count(answers_at(50, 90, 110, 130, 150, 190, 210, 230), Checker(ZERO), 100, 200)
    assert found.taken_ns == array("q", [10] * 4)
    assert found.per_s == pytest.approx(4 / 100e-9)
    assert found.checked == 7  # those around it as well, to the one that ends it


def test_a_window_without_an_answer_has_the_rate_zero() -> None:
    """A worker that is stuck for a whole window is not left out of the sum."""
    assert count(answers_at(90, 250), Checker(ZERO), 100, 200).per_s == 0.0


@pytest.mark.parametrize("when", [50, 150, 210])
def test_a_wrong_answer_is_found_before_in_and_after_the_window(when: int) -> None:
    """Uncounted answers are compared like the others."""
    with pytest.raises(WrongAnswer):
        count(answers_at(50, 150, 210, wrong=when), Checker(ZERO), 100, 200)


def test_several_bytes_can_be_the_right_answer() -> None:
    """The last bits depend on the batch; each form is compared numerically once, and a wrong one always."""
    checker = Checker(ZERO)
    for value in (0.0, 1e-7, 0.0, 2e-7):
        checker.check(0, np.array([value], np.float32))
    with pytest.raises(WrongAnswer):
        checker.check(0, np.array([0.1], np.float32))
    assert checker.checked == 4


def test_a_joined_answer_belongs_to_its_row() -> None:
    """The model of `waiting` gives each row its own answer, wherever in a batch it stands."""
    workload = workloads.make("head", 1)
    joined = workloads.head(np.concatenate(workload.inputs))
    assert np.array_equal(joined, np.concatenate(workload.answers))
