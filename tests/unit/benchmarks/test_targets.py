"""The table of all targets, from the results that are committed; and which commands it would run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.published_results import PUBLISHED, PublishedResult, newest
from benchmarks.targets.catalogue import CATALOGUE, NAMES, plan
from benchmarks.targets.table import rows, summary


def test_every_target_has_a_line_and_a_command() -> None:
    """T1 to T14, T22 and T23, each measured by a command that there is."""
    assert tuple(f"T{number}" for number in (*range(1, 15), 22, 23)) == NAMES
    for line in CATALOGUE:
        command = main.commands[line.arguments[0]]
        if isinstance(command, click.Group):
            command = command.commands[line.arguments[1]]
        options = {option for parameter in command.params for option in parameter.opts}
        given = [word for word in (*line.arguments[1:], line.choose, *line.quick) if word.startswith("--")]
        assert set(given) <= options, line


def test_each_command_runs_once() -> None:
    """For all the targets that it measures; T6 with those of `latency`."""
    steps = plan(NAMES, quick=False)
    assert [step.arguments[0] for step in steps] == [
        "latency",
        "throughput",
        "memory",
        "reload",
        "recovery",
        "survival",
        "http",
        "node",
        "node",
    ]
    assert sorted(name for step in steps for name in step.targets) == sorted(NAMES)
    assert plan(["T3", "T8"], quick=True)[0].arguments == (
        *("throughput", "--workers", "8", "--quick", "--target", "T3,T8"),
    )


def test_the_table_has_what_the_published_files_say() -> None:
    """Every figure that has a bound, with the value and the commit of the newest file that has its target."""
    runs = newest(PUBLISHED)
    table = rows(runs, NAMES)
    assert list(dict.fromkeys(row.target for row in table)) == list(NAMES)
    for row in table:
        if row.target in runs:
            figures = {each["label"].strip(): each for each in runs[row.target].result["figures"]}
            figure = figures[row.figure]
            assert row.reached == figure["reached"]
            assert row.commit.rstrip("+") == runs[row.target].machine["commit"][:10]
            assert float(re.sub(r"[^\d.e-]", "", row.measured.split()[0])) == pytest.approx(
                figure["value"], rel=0.5, abs=0.5
            )
        else:
            assert row.measured == ""


def test_a_missed_bound_is_a_missed_target() -> None:
    """One of several figures is enough; what nobody measured is told as such."""
    figure = {"label": "a", "unit": "x", "low": 1, "high": 1, "stretch": None, "stretch_reached": None}
    missed = {**figure, "value": 3, "target": 2.0, "reached": False, "bound": "at most"}
    reached = {**figure, "value": 1, "target": 2.0, "reached": True, "bound": "at most"}
    machine = {"commit": "c" * 40, "uncommitted_changes": True}
    runs = {
        name: PublishedResult(Path("x.json"), {"machine": machine, "started": "2026"}, {"figures": figures})
        for name, figures in {"T1": [reached], "T2": [reached, missed]}.items()
    }
    table = rows(runs, ("T1", "T2", "T3"))
    assert [row.bound for row in table] == ["<= 2 x", "<= 2 x", "<= 2 x", ""]
    assert table[0].commit == "cccccccccc+"
    assert summary(table) == "1 of 3 targets reached; not reached: T2; not measured: T3"


def test_older_results_tell_their_bound_by_whether_it_was_reached() -> None:
    figure = {
        "label": "a",
        "unit": "",
        "value": 5,
        "low": 5,
        "high": 5,
        "stretch": None,
        "stretch_reached": None,
    }
    measured = {"machine": {"commit": "c" * 40, "uncommitted_changes": False}, "started": "2026"}
    for target, reached, bound in ((4.0, True, ">= 4"), (4.0, False, "<= 4"), (6.0, True, "<= 6")):
        figures = [{**figure, "target": target, "reached": reached}]
        runs = {"T1": PublishedResult(Path("x.json"), measured, {"figures": figures})}
        assert rows(runs, ["T1"])[0].bound == bound


def test_from_published_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints the machine, the rows that were asked for and a summary."""
    monkeypatch.setattr("subprocess.Popen", None)
    done = CliRunner().invoke(main, ["targets", "--from-published", "--only", "t1,T12"])
    assert done.exit_code == 0, done.output
    assert "TensorFlow" in done.output
    assert "T12" in done.output
    assert "T3" not in done.output
    assert "of 2 targets reached" in done.output


def test_an_unknown_target_is_refused() -> None:
    done = CliRunner().invoke(main, ["targets", "--only", "T15"])
    assert done.exit_code == 2
    assert "there are T1, T2," in done.output


def test_of_a_folder_the_newest_counts(tmp_path: Path) -> None:
    """By the time that the run began, whatever the file is called."""
    for name, started, value in (("b", "2026-01-01", 1), ("a", "2026-01-02", 2)):
        document = {"started": started, "machine": {}, "targets": {"T1": {"value": value}, f"L{value}": {}}}
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    (tmp_path / "other.json").write_text("{}")
    found = newest(tmp_path)
    assert list(found) == ["L1", "L2", "T1"]
    assert found["T1"].result == {"value": 2}
