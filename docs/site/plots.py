"""docs/pictures/benchmarks/*.svg, drawn from benchmarks/published. The same results give the same bytes.

python docs/site/plots.py                   write them (`make bench-report` does)
python docs/site/plots.py --png FOLDER      as PNG, to FOLDER, for where SVG is not shown
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import figures  # noqa: E402 - the path first
import matplotlib as mpl  # noqa: E402

mpl.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from benchmarks.published_results import PUBLISHED, PublishedResult, newest  # noqa: E402

BARS = {
    "T1": ("p50_us", "p50 (bar), p99 (dashed), us"),
    "T3": ("per_s", "answers a second"),
    "T7": ("per_s", "rows a second"),
    "T14": ("per_s", "requests a second"),
    "L1": ("p50_us", "p50 (bar), p99 (dashed), us"),
    "L2": ("p50_us", "p50 (bar), p99 (dashed), us"),
    "L3": ("per_s", "answers a second (log)"),
}
"""Of each target what its bars are, and what is written below them."""
OURS = "#0072b2"
HUES = ("#d55e00", "#009e73", "#b07aa1", "#c79a00", "#4fa8d8", "#8c6d4f", "#e07b91", "#5f7a3c", "#767676")
"""Of the other arms, each in all of its rows and lines: told apart by eyes that see no red or no green."""
_STYLE = {
    "svg.hashsalt": "onesession",  # else ids are random
    "svg.fonttype": "none",  # text stays text, of whatever font the reader has
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.autolayout": False,
}


def bars(measured: PublishedResult, what: str, axis: str) -> Figure:
    """A bar, or a dot, for each arm: its median, and a line from its lowest round to its highest."""
    arms = [arm for arm in measured.result["arms"].values() if what in arm]
    height, hues = 1.15 + 0.27 * len(arms), hues_of(arms)
    figure, axes = plt.subplots(figsize=(7.5, height))
    for place, arm in enumerate(reversed(arms)):
        spread, colour = arm[what], hues[arm["label"]]
        if axis.endswith("(log)"):  # where a bar's length would say nothing
            axes.plot(spread["median"], place, "o", color=colour)
        else:
            axes.barh(place, spread["median"], color=colour, height=0.7)
        axes.plot([spread["low"], spread["high"]], [place, place], color="black", linewidth=0.8)
        if what == "p50_us":
            _tail(axes, place, spread["median"], arm["p99_us"]["median"], colour)
    axes.set_yticks(range(len(arms)), [figures._label(arm) for arm in reversed(arms)])  # noqa: SLF001 - one report
    axes.set_xlabel(axis)
    if axis.endswith("(log)"):
        axes.set_xscale("log")
    else:
        axes.locator_params(axis="x", nbins=5)
    figure.subplots_adjust(left=0.54, right=0.97, top=1 - 0.5 / height, bottom=0.45 / height)
    _entitle(figure, measured)
    return figure


def hues_of(arms: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Of each label: one hue for the broker's, whatever its settings, and one for each of the others."""
    labels = dict.fromkeys(arm["label"] for arm in arms)
    others = [label for label in labels if not label.startswith("broker")]
    hues = dict(zip(others, itertools.cycle(HUES)))
    return {label: hues.get(label, OURS) for label in labels}


def _tail(axes: Any, place: int, median: float, p99: float, colour: str) -> None:
    """Dashed, from the p50 to the p99."""
    axes.plot([median, p99], [place, place], color=colour, linestyle=(0, (3, 2)), linewidth=1.2)
    axes.plot([p99], [place], marker="|", color=colour, markersize=7)


def _entitle(figure: Figure, measured: PublishedResult) -> None:
    """What was measured, where and when."""
    machine, title = measured.machine, measured.result["title"]
    figure.suptitle(
        title,
        x=0.01,
        y=1 - 0.06 / figure.get_figheight(),
        ha="left",
        va="top",
        fontsize=10,
    )
    figure.text(
        *(
            0.01,
            1 - 0.27 / figure.get_figheight(),
            f"{machine['cpu']}, {machine['cores']} cores, {measured.started[:10]}",
        ),
        ha="left",
        va="top",
        fontsize=8,
        color="#555555",
    )


def sweep(measured: PublishedResult) -> Figure:
    """Of each model and number of rows the simulated lines and the analysed one, and what was measured."""
    points = measured.result["details"]["sweep"]
    kinds = list(dict.fromkeys((point["model"], point["rows"]) for point in points))
    figure, panels = plt.subplots(1, len(kinds), figsize=(2.4 * len(kinds), 3.3), squeeze=False)
    for axes, (model, rows) in zip(panels[0], kinds):
        _panel(axes, [point for point in points if (point["model"], point["rows"]) == (model, rows)])
        axes.set_title(f"{model}, {rows} {'row' if rows == 1 else 'rows'}", fontsize=9)
    panels[0][0].set_ylabel("thousand requests/s")
    panels[0][0].legend(frameon=False, fontsize=7)
    figure.subplots_adjust(left=0.08, right=0.99, top=0.77, bottom=0.15, wspace=0.25)
    _entitle(figure, measured)
    return figure


def _panel(axes: Any, points: Iterable[dict[str, Any]]) -> None:
    points = list(points)
    workers = [point["workers"] for point in points]
    axes.plot(workers, [point["simulated_per_s"] / 1e3 for point in points], color=OURS, label="simulated")
    axes.plot(
        workers,
        [point["mva_per_s"] / 1e3 for point in points],
        color=OURS,
        linestyle="--",
        label="analysis",
    )
    for point in points:
        measured = sorted(each / 1e3 for each in point["measured_per_s"])
        middle = measured[len(measured) // 2]
        axes.plot([point["workers"]] * 2, [measured[0], measured[-1]], color="black", linewidth=0.8)
        label = "measured" if point is points[0] else None
        axes.plot(point["workers"], middle, "o", color="black", markersize=4, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(workers, [str(number) for number in workers])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("workers")


def draw(results: Path, folder: Path, kind: str = "svg") -> list[Path]:
    """All pictures that there are results for."""
    folder.mkdir(parents=True, exist_ok=True)
    found = newest(results)
    written = []
    with mpl.rc_context(_STYLE):
        for name, (what, axis) in BARS.items():
            if name in found:
                written.append(_save(bars(found[name], what, axis), folder / f"{name}.{kind}"))
        if figures.SCALING in found:
            written.append(_save(sweep(found[figures.SCALING]), folder / f"scaling.{kind}"))
    return written


def _save(figure: Figure, path: Path) -> Path:
    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    figure.savefig(path, metadata=metadata, dpi=150)
    plt.close(figure)
    return path


def main() -> int:
    kind, folder = "svg", figures.PICTURES
    if len(sys.argv) == 3:
        kind, folder = sys.argv[1].removeprefix("--"), Path(sys.argv[2])
    draw(PUBLISHED, folder, kind)
    return 0


if __name__ == "__main__":
    sys.exit(main())
