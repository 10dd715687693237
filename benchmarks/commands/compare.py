"""`python -m benchmarks compare`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks import report
from benchmarks.compare.quantities import Compared, compared
from benchmarks.compare.rule import LEVEL, MARGIN, ChangeVerdict
from benchmarks.figures import number
from benchmarks.published_results import NoResults, PublishedResult, newest

_STYLES = {ChangeVerdict.BETTER: "green", ChangeVerdict.WORSE: "red", ChangeVerdict.WITHIN_NOISE: "dim"}
_MACHINE = ("cpu", "cores", "kernel", "python", "tensorflow", "numpy")
_PLACE = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("old", type=_PLACE)
@click.argument("new", type=_PLACE)
@click.option(
    "--arms",
    is_flag=True,
    help="Also compare times and rates of every arm, which takes two runs on one quiet machine.",
)
@click.option("--all", "everything", is_flag=True, help="Also show figures that moved within noise.")
@click.option("--fail-on-regression", is_flag=True, help="Exit with status 1 if any figure became worse.")
def compare(old: Path, new: Path, arms: bool, everything: bool, fail_on_regression: bool) -> None:
    """What moved beyond noise between two runs: files of JSON, or folders of which each target's newest counts.

    Figures are ratios from within one run, and so can be compared between runs. A figure has moved if the 99 %
    bootstrap interval of the ratio of its medians is all of it more than 10 % away from 1; where a run has fewer than 5
    rounds, or has not kept them, if its range and the other's do not overlap and the medians are 10 % apart.
    """
    try:
        before, after = newest(old), newest(new)
    except NoResults as error:
        raise click.UsageError(str(error)) from None
    console = report.console()
    for line in differences(before, after):
        console.print(line, style="yellow", highlight=False)
    found = compared(before, after, arms)
    if not found:
        raise click.UsageError(f"{old} and {new} have no figure in common")
    moved = [each for each in found if each.change.verdict is not ChangeVerdict.WITHIN_NOISE]
    _print(console, found if everything else moved)
    worse = sum(each.change.verdict is ChangeVerdict.WORSE for each in moved)
    console.print(
        f"{len(found)} compared: {len(moved) - worse} better, {worse} worse, {len(found) - len(moved)} within noise"
    )
    if worse and fail_on_regression:
        sys.exit(1)


def differences(old: Mapping[str, PublishedResult], new: Mapping[str, PublishedResult]) -> list[str]:
    """Differences that make a comparison doubtful: other machines, other options."""
    lines: dict[str, None] = {}
    for target in [target for target in new if target in old]:
        was, now = old[target].machine, new[target].machine
        for fact in _MACHINE:
            if was.get(fact) != now.get(fact):
                lines[f"{fact}: {was.get(fact)} before, {now.get(fact)} now"] = None
        was, now = (run[target].options for run in (old, new))
        for name in sorted(was.keys() | now.keys()):
            if was.get(name) != now.get(name):
                lines[f"{target}, option {name}: {was.get(name)} before, {now.get(name)} now"] = None
    return list(lines)


def _print(console: Console, lines: Sequence[Compared]) -> None:
    if not lines:
        return
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("")
    table.add_column("figure", max_width=56)
    for heading in ("before", "now", "now / before", f"{LEVEL:.0%} interval", f"beyond {MARGIN:.0%}"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in lines:
        change = each.change
        table.add_row(
            each.target,
            f"{each.label}, {each.unit}",
            number(each.old.median),
            number(each.new.median),
            "" if change.ratio is None else f"{change.ratio:.2f}",
            "ranges" if change.interval is None else "{:.2f} to {:.2f}".format(*change.interval),
            f"[{_STYLES[change.verdict]}]{change.verdict.value}[/]",
        )
    console.print(table)
