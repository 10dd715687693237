"""The plots of the documentation: drawn from the committed results, and the same each time."""

from __future__ import annotations

import html
import re
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
    """Every plot for which there are results is committed and shown on a page."""
    drawn = {path.stem for path in figures.PICTURES.glob("*.svg")}
    assert drawn == newest(PUBLISHED).keys() & {*plots.BARS, figures.SCALING}
    text = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    for name in drawn:
        assert f"pictures/benchmarks/{name}.svg)" in text


def test_an_arm_has_one_hue() -> None:
    """In all of its rows; the broker's is the same in every plot, and nobody else's."""
    arms = [{"label": label} for label in ("broker", "a", "b", "a", "broker, its own settings", "c")]
    hues = plots.hues_of(arms)
    assert hues["broker"] == hues["broker, its own settings"] == plots.OURS
    assert len({hues[label] for label in ("a", "b", "c", "broker")}) == 4
    assert plots.OURS not in plots.HUES


@pytest.mark.parametrize("name", sorted({*plots.BARS, figures.SCALING}))
def test_a_plot_says_what_was_measured_where_and_when(name: str) -> None:
    """Title, machine and date; where it is of latency, the p99 beside the p50."""
    measured = newest(PUBLISHED)[name]
    text = (figures.PICTURES / f"{name}.svg").read_text()
    said = {html.unescape(each) for each in re.findall(r"<text[^>]*>([^<]*)</text>", text)}
    assert measured.result["title"] in said
    assert f"{measured.machine['cpu']}, {measured.machine['cores']} cores, {measured.started[:10]}" in said
    if plots.BARS.get(name, ("",))[0] == "p50_us":
        dashed = text.count("stroke-dasharray")
        assert dashed == len(measured.result["arms"])
