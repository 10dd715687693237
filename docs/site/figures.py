"""benchmarks/published/*.json as a page: of each target the newest measurement that is committed, with its commit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HEAD = """# Measured

Of each target the newest run in `benchmarks/published`, which has every sample's summary; how
they are measured is told in [benchmarks](../benchmarks.md). A time says nothing about another machine: compare the rows
of one table, which were measured in turns in one run. "x" is a ratio of medians.

"""


_CHOSEN = (
    (
        "T1",
        "broker (adaptive) / Session.run",
        "one worker, one row: time of a call, beside `Session.run` in the worker",
    ),
    (
        "T3",
        "8 workers: broker, own / Session.run",
        "eight workers: requests a second, beside a session in each",
    ),
    ("T4", "predict(x) / Pipe + pickle", "a row of 602 kB: time of a call, beside a pipe and pickle"),
    (
        "T6",
        "broker / own session",
        "from a worker's fork to its first answer, beside loading the model there",
    ),
    ("T9", "broker: CPU", "processor time of a broker with eight attached workers that ask nothing"),
)
"""What the README shows: target, figure, and what it is called there."""


def page(folder: Path) -> str:
    newest = _newest(folder)
    return _HEAD + "\n".join(
        line
        for target in sorted(newest, key=lambda name: (len(name), name))
        for line in _target(target, *newest[target])
    )


def chosen(folder: Path) -> str:
    """The rows of the README's table, of those figures that there are."""
    newest = _newest(folder)
    rows = ["| | median | lowest to highest |", "|---|---:|---:|"]
    for target, label, words in _CHOSEN:
        for figure in newest[target][1]["targets"][target]["figures"] if target in newest else ():
            if figure["label"].strip() == label:
                span = f"{_number(figure['low'])} to {_number(figure['high'])}"
                rows.append(f"| {words} | {_number(figure['value'])} {figure['unit']} | {span} |")
    return "\n".join(rows)


def _newest(folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Of each target the file and the document of the last run that has it."""
    newest: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path, document in sorted(_documents(folder), key=lambda each: str(each[1]["started"])):
        for target in document["targets"]:
            newest[target] = (path, document)
    return newest


def _documents(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in folder.glob("*.json"):
        document = json.loads(path.read_text())
        if {"targets", "machine", "started"} <= document.keys():
            yield path, document


def _target(name: str, path: Path, document: dict[str, Any]) -> Iterator[str]:
    result, machine = document["targets"][name], document["machine"]
    state = " with uncommitted changes" if machine["uncommitted_changes"] else ""
    yield f"## {name}: {result['title']}\n"
    yield (
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, TensorFlow {machine['tensorflow']}; "
        f"commit `{machine['commit'][:10]}`{state}, {document['started'][:10]}: "
        f"[{path.name}](../../benchmarks/published/{path.name})\n"
    )
    yield from _figures(result["figures"])
    yield from _arms(result["arms"])
    for note in result["notes"]:
        yield f"{_cell(note)}\n"


def _figures(figures: list[dict[str, Any]]) -> Iterator[str]:
    if not figures:
        return
    yield "| figure | median | lowest to highest | target | |"
    yield "|---|---:|---:|---:|---|"
    for each in figures:
        target = "" if each["target"] is None else f"{_bound(each)}{each['target']:g} {each['unit']}"
        verdict = {None: "", True: "reached", False: "**not reached**"}[each["reached"]]
        span = f"{_number(each['low'])} to {_number(each['high'])}"
        yield f"| {_cell(each['label'])} | {_number(each['value'])} {each['unit']} | {span} | {target} | {verdict} |"
    yield ""


def _bound(figure: dict[str, Any]) -> str:
    """Older results do not say whether a target is a floor or a ceiling, but whether it was reached."""
    if "bound" in figure:
        return "≥ " if figure["bound"] == "at least" else "≤ "
    if figure["value"] == figure["target"]:
        return ""
    return "≤ " if (figure["value"] < figure["target"]) == figure["reached"] else "≥ "


def _arms(arms: dict[str, dict[str, Any]]) -> Iterator[str]:
    columns = [
        (unit, heading)
        for unit, heading in (("p50_us", "p50, us"), ("p99_us", "p99, us"), ("per_s", "a second"))
        if any(unit in arm for arm in arms.values())
    ]
    if not columns:
        return
    yield f"| | {' | '.join(heading for _, heading in columns)} |"
    yield f"|---|{'---:|' * len(columns)}"
    for arm in arms.values():
        cells = [_number(arm[unit]["median"]) if unit in arm else "" for unit, _ in columns]
        yield f"| {_cell(_label(arm))} | {' | '.join(cells)} |"
    yield ""


def _label(arm: dict[str, Any]) -> str:
    details = [f"{arm['workers']} workers"] if "workers" in arm else []
    if arm.get("threads"):
        details.append(f"threads: {arm['threads']}")
    return f"{arm['label']} ({', '.join(details)})" if details else str(arm["label"])


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("[", "\\[").replace("<", "&lt;")
