"""`python -m benchmarks` losses, survival and targets: that they run, and write what they measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main


@pytest.fixture(autouse=True)
def same_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command hides the GPU from what it starts; not from the rest of this run."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")


def run(path: Path, *arguments: str) -> dict:
    done = CliRunner().invoke(main, [*arguments, "--json", str(path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(path.read_text())


@pytest.mark.slow
def test_losses(tmp_path: Path) -> None:
    """Every arm of every case answers, and its answers are checked."""
    document = run(tmp_path / "losses.json", "losses", "--quick")
    assert list(document["targets"]) == ["L1", "L2", "L3"]
    for result in document["targets"].values():
        assert result["figures"]
        assert all(arm["answers_checked"] for arm in result["arms"].values())


@pytest.mark.slow
def test_targets_runs_commands_and_joins_their_results(tmp_path: Path) -> None:
    """One JSON, each target with its own start and options, and what was run for it."""
    document = run(tmp_path / "targets.json", "targets", "--quick", "--only", "T9,T13")
    assert list(document["targets"]) == ["T9", "T13"]
    assert document["targets"]["T13"]["options"]["headers"] == 2000
    assert document["targets"]["T13"]["figures"][0]["value"] == 2000
    assert not document["targets"]["T13"]["figures"][0]["reached"]
    assert [step["status"] for step in document["commands"]] == [0, 0]
