"""One minute of `python -m tests.differential` (make fuzz)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.differential.kinds import KINDS
from tests.differential.report import read
from tests.differential.run import Failed, Limits, Report, exported, run
from tests.differential.shrink import Player
from tests.differential.stage import Options

SECONDS = 45
SHRINK_SECONDS = 60


@pytest.mark.timeout(600)
def test_every_answer_is_right(seed: int, tmp_path: Path) -> None:
    """Models of every kind, called in every way by six processes beside kills, suspends and reloads, answer as numpy
    does; nothing is late, logged as a fault or left."""
    with exported() as models:
        report: Report = run(models, Limits(SECONDS, SHRINK_SECONDS), seed, Options(), tmp_path, print)
    print(report)
    assert report.answers.total() > len(KINDS)


@pytest.mark.timeout(600)
def test_a_failure_is_cut_down_to_a_script_that_repeats_it(seed: int, tmp_path: Path) -> None:
    """The script for a fault that takes a few calls has few calls, and fails when it is replayed."""
    options = Options(2, "stale_view", ("text_to_numbers",), ("predict", "request"), deeds=False, green=False)
    with exported() as models:
        with pytest.raises(Failed, match="in place of") as found:
            run(models, Limits(30, SHRINK_SECONDS), seed, options, tmp_path, print)
        script = read(found.value.script)
        assert script.size <= 10
        with Player(models, script.fault) as player:
            assert any(player.fails(script) for _ in range(5))
