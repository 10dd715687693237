"""benchmarks/published/*.json as a page: of each target the newest measurement that is committed, with its commit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers.bench import model_of
from benchmarks.published_results import PublishedResult, natural, newest
from benchmarks.targets import table
from benchmarks.targets.catalogue import NAMES
from broker.counters.counted import counted

SCALING = "scaling"
"""Has a page of its own."""
BEFORE = "before"
"""The folder of the results that the newest ones have replaced."""
_THREADS = {"one": "1 thread", "default": "TensorFlow's threads"}
PICTURES = Path(__file__).parents[1] / "pictures" / "benchmarks"
"""What docs/site/plots.py draws."""

_HEAD = """# Measured

Of each target the newest run in `benchmarks/published`, which has every sample's summary; how
they are measured is told in [benchmarks](../benchmarks.md). A time says nothing about another machine: compare the rows
of one table, which were measured in turns in one run. "x" is a ratio of medians.

"""


_CHOSEN = (
    ("T5", "whole tree: a session in each worker", "memory of the server, a session in each worker"),
    ("T5", "whole tree: broker", "memory of the server, with the broker"),
    (
        "T5",
        "a worker with the broker over a bare one",
        "memory that a worker takes more than without a model",
    ),
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
    found = newest(folder)
    order = sorted(found.keys() - {SCALING}, key=lambda name: (name not in NAMES, natural(name)))
    return _HEAD + "\n".join(line for target in order for line in _target(target, found[target]))


def chosen(folder: Path) -> str:
    """The rows of the README's table, of those figures that there are."""
    found = newest(folder)
    rows = ["| | median | lowest to highest |", "|---|---:|---:|"]
    for target, label, words in _CHOSEN:
        for figure in found[target].result["figures"] if target in found else ():
            if figure["label"].strip() == label:
                span = f"{_number(figure['low'])} to {_number(figure['high'])}"
                rows.append(f"| {words} | {_number(figure['value'])} {figure['unit']} | {span} |")
    return "\n".join(rows)


def targets(folder: Path) -> str:
    """All of the targets in one table, beside what was published before, and how many are reached."""
    lines = table.rows(newest(folder), NAMES)
    before = {
        (line.target, line.figure): line.measured for line in table.rows(newest(folder / BEFORE), NAMES)
    }
    rows = [
        "| | figure | measured | lowest to highest | before | target | | commit |",
        "|---|---|---:|---:|---:|---:|---|---|",
    ]
    last = ""
    for line in lines:
        bound, reached = (
            (line.bound, line.reached) if line.bound else (f"stretch {line.stretch}", line.stretch_reached)
        )
        cells = [
            line.target if line.target != last else "",
            _cell(line.figure),
            line.measured or "not measured",
            line.span,
            before.get((line.target, line.figure), ""),
            bound.replace(">=", "≥").replace("<=", "≤") if line.measured else "",
            {None: "", True: "reached", False: "**not reached**"}[reached],
            f"`{line.commit}`" if line.commit else "",
        ]
        rows.append(f"| {' | '.join(cells)} |")
        last = line.target
    told = f"{table.summary(lines)}. A `+` is for a tree with changes that were not committed."
    return "\n".join([*rows, "", told])


def losses(folder: Path) -> str:
    """Every figure of the cases in which the broker loses, each case with its picture and its notes."""
    found = newest(folder)
    lines: list[str] = []
    for name in ("L1", "L2", "L3"):
        if name in found:
            result = found[name].result
            case = result["title"].partition(": ")[2]
            lines += [f"**{case[0].upper()}{case[1:]}**", ""]
            lines += _figures(result["figures"], bounds=False)
            lines += [text for note in result["notes"] for text in (_cell(note), "")]
    if not lines:
        return "Not measured yet: `python -m benchmarks losses --json benchmarks/published/losses.json`."
    return "\n".join(lines).rstrip()


def peers(folder: Path) -> str:
    """Each way of each peer in a line, beside the broker that took turns with it: the nearest first."""
    found = newest(folder)
    parts: list[str] = []
    for model in dict.fromkeys(filter(None, map(model_of, found))):
        lines, left_out, origins = [], [], {}
        for name, measured in found.items():
            if model_of(name) == model:
                origins[_origin(measured, "..")] = None
                lines += _ways(measured.result["arms"])
                left_out += [f"Left out: {label}." for label in measured.result["skipped"]]
        figures = (
            "p50 of 1 worker, us | broker / peer | answers/s of 8 workers | broker / peer | CPU | memory"
        )
        head = [f"| `{model}` | {figures} |", "|---|---:|---:|---:|---:|---:|---:|"]
        parts += [*origins, "", *head, *[line for _, line in sorted(lines)], "", *left_out, ""]
    if not parts:
        return "Not measured yet: `python -m benchmarks peers --json benchmarks/published/peers.json`."
    return "\n".join(parts).rstrip()


def _ways(arms: dict[str, dict[str, Any]]) -> Iterator[tuple[float, str]]:
    """Each with the threads that it was quicker with."""
    one, eight = arms.get("broker-1"), arms.get("broker-8")
    quickest: dict[str, str] = {}
    for key, arm in arms.items():
        best = quickest.setdefault(arm["label"], key)
        if arm["workers"] == 8 and (
            arms[best]["workers"] != 8 or arm["per_s"]["median"] > arms[best]["per_s"]["median"]
        ):
            quickest[arm["label"]] = key
    for key in quickest.values():
        arm, alone = arms[key], arms.get(f"{key.rpartition('-')[0]}-1")
        if one and eight and alone and arm["workers"] == 8 and arm is not eight:
            faster = eight["per_s"]["median"] / arm["per_s"]["median"]
            cells = (
                _number(alone["p50_us"]["median"]),
                f"{one['p50_us']['median'] / alone['p50_us']['median']:.2g} x",
                f"{arm['per_s']['median']:,.0f}",
                f"{_number(faster)} x",
                f"{eight['cpu_s_per_1000']['median'] / arm['cpu_s_per_1000']['median']:.2g} x",
                f"{eight['memory_mb_median'] / arm['memory_mb_median']:.2g} x",
            )
            yield faster, f"| {_cell(arm['label'])}, {_THREADS[arm['threads']]} | {' | '.join(cells)} |"


def scaling(folder: Path) -> str:
    """The tables of the page, as the code that is no longer here measured them."""
    measured = newest(folder)[SCALING]
    lines = [_origin(measured, ".."), ""]
    if (PICTURES / f"{SCALING}.svg").is_file():
        lines += ["![throughput against workers](pictures/benchmarks/scaling.svg)", ""]
    for sheet in measured.result["sheets"]:
        lines += [f"**{_cell(sheet['title'])}**", "", *_sheet(sheet), ""]
    lines += [text for note in measured.result["notes"] for text in (_cell(note), "")]
    return "\n".join(lines).rstrip()


def _sheet(sheet: dict[str, Any]) -> Iterator[str]:
    yield f"| {' | '.join(_cell(heading.strip()) for heading in sheet['headings'])} |"
    yield f"|---|{'---:|' * (len(sheet['headings']) - 1)}"
    for row in sheet["rows"]:
        yield f"| {' | '.join(_cell(cell) for cell in row)} |"


def _target(name: str, measured: PublishedResult) -> Iterator[str]:
    result = measured.result
    yield f"## {name}: {result['title']}\n"
    yield f"{_origin(measured)}\n"
    yield from _figures(result["figures"])
    if (PICTURES / f"{name}.svg").is_file():
        yield f"![{_cell(result['title'])}](../pictures/benchmarks/{name}.svg)\n"
    yield from _arms(result["arms"])
    for note in result["notes"]:
        yield f"{_cell(note)}\n"
    for arm, why in result.get("skipped", {}).items():
        yield f"Left out: {_cell(arm)}: {_cell(why)}\n"


def _origin(measured: PublishedResult, up: str = "../..") -> str:
    machine = measured.machine
    state = " with uncommitted changes" if machine["uncommitted_changes"] else ""
    path = f"benchmarks/published/{measured.path.name}"
    return (
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, TensorFlow {machine['tensorflow']}; "
        f"commit `{machine['commit'][:10]}`{state}, {measured.started[:10]}: [{measured.path.name}]({up}/{path})"
    )


def _figures(figures: list[dict[str, Any]], bounds: bool = True) -> Iterator[str]:
    if not figures:
        return
    if not bounds:
        yield "| | median | lowest to highest |"
        yield "|---|---:|---:|"
        for each in figures:
            span = f"{_number(each['low'])} to {_number(each['high'])}"
            yield f"| {_cell(each['label'])} | {_number(each['value'])} {each['unit']} | {span} |"
        yield ""
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
    details = [counted(arm["workers"], "worker")] if "workers" in arm else []
    if arm.get("threads"):
        details.append(f"threads: {arm['threads']}")
    return f"{arm['label']} ({', '.join(details)})" if details else str(arm["label"])


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("[", "\\[").replace("<", "&lt;")
