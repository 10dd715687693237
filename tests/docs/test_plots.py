"""The plots of the documentation: drawn from the committed results, and the same each time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.published_results import PUBLISHED, newest
from tests.docs.pages import ROOT

pytest.importorskip("matplotlib")
sys.path.append(str(ROOT / "docs" / "site"))

import figures
import plots


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    """No date, no random id: a plot that changes in a commit has other figures. In other processes, since matplotlib
    keeps the files of its fonts open."""
    command = [sys.executable, "docs/site/plots.py", "--svg"]
    places = [tmp_path / name for name in "ab"]
    running = [subprocess.Popen([*command, str(place)], cwd=ROOT) for place in places]
    assert [one.wait(60) for one in running] == [0, 0]
    one, other = ({path.name: path.read_bytes() for path in place.iterdir()} for place in places)
    assert one
    assert one == other


def test_every_plot_is_committed_and_shown() -> None:
    """Those that there are results for, each on a page."""
    drawn = {path.stem for path in figures.PICTURES.glob("*.svg")}
    assert drawn == newest(PUBLISHED).keys() & {*plots.BARS, figures.SCALING}
    text = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    for name in drawn:
        assert f"pictures/benchmarks/{name}.svg)" in text
