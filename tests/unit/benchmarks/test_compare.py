"""When a figure has moved, and what `python -m benchmarks compare` says and returns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from benchmarks.__main__ import main
from benchmarks.compare.rule import LEAST_ROUNDS, ChangeVerdict, compare, ratio_interval
from benchmarks.sampling import Spread

ROUNDS = (1.00, 1.02, 0.98, 1.01, 0.99, 1.03, 0.97)


def spread(*values: float) -> Spread:
    return Spread.of(values)


def scaled(factor: float) -> Spread:
    return spread(*(factor * value for value in ROUNDS))


@pytest.mark.parametrize(
    ("factor", "higher_is_better", "verdict"),
    [
        (1.0, True, ChangeVerdict.WITHIN_NOISE),
        (1.08, True, ChangeVerdict.WITHIN_NOISE),  # certain, and too little to speak of between two runs
        (1.5, True, ChangeVerdict.BETTER),
        (1.5, False, ChangeVerdict.WORSE),
        (0.6, True, ChangeVerdict.WORSE),
        (0.6, False, ChangeVerdict.BETTER),
    ],
)
def test_a_figure_moves_when_its_interval_leaves_the_margin(
    factor: float, higher_is_better: bool, verdict: ChangeVerdict
) -> None:
    """Up or down, and whether that is good depends on the figure."""
    assert compare(scaled(1), scaled(factor), higher_is_better).verdict is verdict


def test_a_wide_spread_hides_a_change() -> None:
    """Twice the median is nothing where the rounds differ by more than that."""
    wild = spread(1.0, 9.0, 2.0, 7.0, 0.5)
    assert compare(wild, spread(2.0, 18.0, 4.0, 14.0, 1.0), True).verdict is ChangeVerdict.WITHIN_NOISE


def test_the_interval_is_that_of_the_ratio_of_medians() -> None:
    """It contains the ratio, turns over with it, and is the same each time."""
    low, high = ratio_interval(ROUNDS, scaled(2).rounds)
    assert low < 2 < high
    assert (low, high) == ratio_interval(ROUNDS, scaled(2).rounds)
    assert ratio_interval(ROUNDS, ROUNDS)[0] < 1 < ratio_interval(ROUNDS, ROUNDS)[1]


def test_rounds_of_one_kind_seldom_differ() -> None:
    """Of 100 pairs of runs that are drawn alike, with a spread of 10 %, hardly any is called a change; of as many that
    differ by half, nearly every one is."""
    rng = np.random.default_rng(3)
    runs = rng.lognormal(0.0, 0.10, size=(200, 9))
    alike = [compare(spread(*old), spread(*new), True).verdict for old, new in zip(runs[::2], runs[1::2])]
    apart = [
        compare(spread(*old), spread(*new * 1.5), True).verdict for old, new in zip(runs[::2], runs[1::2])
    ]
    assert alike.count(ChangeVerdict.WITHIN_NOISE) >= 98
    assert apart.count(ChangeVerdict.BETTER) >= 90


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ((1.0, 0.9, 1.1), (1.2, 1.05, 1.3), ChangeVerdict.WITHIN_NOISE),  # the ranges overlap
        ((1.0, 0.9, 1.1), (1.3, 1.2, 1.4), ChangeVerdict.WORSE),
        ((1.0, 0.99, 1.01), (1.05, 1.04, 1.06), ChangeVerdict.WITHIN_NOISE),  # apart, by less than the margin
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), ChangeVerdict.WITHIN_NOISE),
        ((0.0, 0.0, 0.0), (0.4, 0.3, 0.5), ChangeVerdict.WORSE),
        ((-2.0, -3.0, -1.0), (5.0, 4.0, 6.0), ChangeVerdict.WORSE),
    ],
)
def test_without_enough_rounds_ranges_decide(
    old: tuple[float, float, float], new: tuple[float, float, float], verdict: ChangeVerdict
) -> None:
    """As for results from before rounds were kept, and for values that have no ratio."""
    change = compare(Spread(*old), Spread(*new), higher_is_better=False)
    assert change.verdict is verdict
    assert change.interval is None


def test_few_rounds_have_no_interval() -> None:
    few = spread(*ROUNDS[: LEAST_ROUNDS - 1])
    assert compare(few, scaled(3), True).interval is None
    assert compare(few, scaled(3), True).verdict is ChangeVerdict.BETTER


# --- the command ---


def write(path: Path, factor: float, **machine: Any) -> Path:
    """A run whose one figure, of which more is better, and whose one arm are `factor` times the usual."""
    value = scaled(factor)
    figure = {
        "label": " 8 workers: ours / theirs",
        "unit": "x",
        "value": value.median,
        "low": value.low,
        "high": value.high,
        "rounds": list(value.rounds),
        "bound": "at least",
        "target": 0.5,
        "reached": True,
        "stretch": None,
        "stretch_reached": None,
    }
    arm = {
        "label": "ours",
        "per_s": {"median": value.median, "low": value.low, "high": value.high},
        "windows": [{"per_s": each} for each in value.rounds],
    }
    facts = {"cpu": "one", "cores": 2, "commit": "c" * 40, "uncommitted_changes": False, **machine}
    result = {"title": "a target", "arms": {"ours": arm}, "figures": [figure], "notes": [], "other_load": 0.0}
    document = {"started": "2026-01-01", "machine": facts, "options": {}, "targets": {"T3": result}}
    path.write_text(json.dumps(document))
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def test_the_command_tells_what_moved(tmp_path: Path) -> None:
    """Only what moved, and the count of all."""
    old, new = write(tmp_path / "old.json", 1), write(tmp_path / "new.json", 2)
    done = run(old, new)
    assert done.exit_code == 0
    assert "8 workers: ours / theirs" in done.output
    assert "better" in done.output
    assert "1 compared: 1 better, 0 worse, 0 within noise" in done.output
    assert "2 compared: 2 better" in run("--arms", old, new).output


def test_a_regression_fails_only_if_asked_to(tmp_path: Path) -> None:
    old, new = write(tmp_path / "old.json", 1), write(tmp_path / "new.json", 0.5)
    assert run(old, new).exit_code == 0
    assert run("--fail-on-regression", old, new).exit_code == 1
    assert run("--fail-on-regression", new, old).exit_code == 0
    assert run("--fail-on-regression", old, old).exit_code == 0


def test_another_machine_is_told(tmp_path: Path) -> None:
    done = run(write(tmp_path / "old.json", 1), write(tmp_path / "new.json", 1, cores=64))
    assert "cores: 2 before, 64 now" in done.output
    assert "within noise" in done.output


@pytest.mark.parametrize("text", ["{}", "no json", '{"targets": {}, "machine": {}, "started": ""}'])
def test_what_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    """With the path, and what was expected."""
    path = tmp_path / "wrong.json"
    path.write_text(text)
    done = run(write(tmp_path / "old.json", 1), path)
    assert done.exit_code == 2
    assert str(path) in done.output
    assert "expected the JSON" in done.output
