"""The frames of `onesession top`: text made from the broker's statistics of the last minute. Sends no queries."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from typing import Any, TypeVar

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from broker.cli.top_view import HELP, TopView
from broker.counters.counted import counted
from broker.host.processes import titles_of
from broker.observe import formatting as wording
from broker.observe.summary import Figures, figures, label_of

_KEPT = 60
_LABEL_WIDTH = 18  # where there is no room for more
_LEAST_SPARKS = 6
_NUMBERS_WIDTH = 41  # a model's line without its label and its two sparklines
_WORKER_NUMBERS_WIDTH = 50  # a worker's line without its name
_LINES_AROUND = 9  # header, titles and footer
_LEAST_LINES = 2  # of each table

Message = dict[str, Any]
Item = TypeVar("Item")


class History:
    """The most recent figures, and the history of load and latency for each model."""

    def __init__(self) -> None:
        self.now: Message | None = None
        self.figures: list[Figures] = []
        self.cpu_share = 0.0
        self.per_second: dict[Hashable, float] = {}  # of each worker's channel
        self.titles: dict[int, str] = {}  # of each worker's process
        self.loads: dict[Hashable, deque[float]] = {}
        self.lateness: dict[Hashable, deque[float]] = {}

    def add(self, now: Message) -> None:
        before = self.now
        if before is not None and before["pid"] != now["pid"]:
            before = None  # another broker: it counts from 0
        self.now = now
        self.figures = figures(now, before)
        seconds = now["time"] - before["time"] if before else now["uptime_seconds"]
        cpu_before = before["process"]["cpu_seconds"] if before else 0.0
        self.cpu_share = (now["process"]["cpu_seconds"] - cpu_before) / max(seconds, 1e-3)
        done = {worker["channel"]: worker["requests"] for worker in before["workers"]} if before else {}
        self.per_second = {
            worker["channel"]: max(0, worker["requests"] - done.get(worker["channel"], 0))
            / max(seconds, 1e-3)
            for worker in now["workers"]
        }
        self.titles = titles_of(
            [worker["pid"] for worker in now["workers"]], now["process"].get("pid_namespace", "")
        )
        for figure in self.figures:
            key = figure.model, figure.version, figure.signature
            self.loads.setdefault(key, deque(maxlen=_KEPT)).append(figure.per_second)
            self.lateness.setdefault(key, deque(maxlen=_KEPT)).append(figure.us("total", 0.99))


def frame(
    history: History, width: int, height: int, note: str = "", view: TopView | None = None
) -> RenderableType:
    """At most `height` lines (at least 13), readable in 80 columns or more. `note` says what is wrong, if anything."""
    view = view or TopView()
    if history.now is None:
        return Group(Text(note or "waiting for the broker"), _footer("", view))
    if view.help:
        return Group(_help(), _footer(note, view))
    room = max(2 * _LEAST_LINES, height - _LINES_AROUND)
    figures = view.chosen(history.figures, history.now)
    models = min(len(figures), room - min(len(history.now["workers"]), _LEAST_LINES))
    return Group(
        *_header(history.now, history.cpu_share, sum(f.per_second for f in history.figures)),
        _models(history, figures, bool(view.sort), width, max(_LEAST_LINES, models)),
        _workers(history, width, max(_LEAST_LINES, room - models)),
        _footer(note or "; ".join(run["text"] for run in history.now.get("long_runs", ())), view),
    )


def _fitting(items: Sequence[Item], lines: int) -> tuple[Sequence[Item], str]:
    """The items that fit into this many lines, and a last line that counts the others."""
    if len(items) <= lines:
        return items, ""
    return items[: lines - 1], f"and {len(items) - lines + 1} more"


def _header(now: Message, cpu_share: float, per_second: float) -> list[Text]:
    memory, process = now["shared_memory"], now["process"]
    slots = now["slots"]
    first = f"broker {now['pid']}, up {wording.age(now['uptime_seconds'])}"
    if now["restarts"]:
        first += f", {counted(now['restarts'], 'restart')}"
    first += f"   {wording.number(per_second)} requests/s   {counted(len(now['workers']), 'worker')}"
    second = (
        f"CPU {cpu_share:.0%}   memory {wording.size(process['resident_bytes'])}   "
        f"shared {wording.size(memory['bytes'])} of {wording.size(memory['limit'])}"
    )
    third = "slots: " + ", ".join(f"{count} {state}" for state, count in slots.items() if count)
    waits = [
        f"{model} {counted(queue['rows'], 'row')}" for model, queue in now["queues"].items() if queue["rows"]
    ]
    if waits:
        third += "   waiting: " + ", ".join(waits)
    third += f"   workers {wording.how_they_wait(now['waiting'])}" if now.get("waiting") else ""
    lines = [Text(text, no_wrap=True, overflow="ellipsis") for text in (first, second, third)]
    lines[0].stylize("bold")
    return lines


def _models(history: History, figures: list[Figures], is_sorted: bool, width: int, lines: int) -> Table:
    """In the order given; where not all fit, and the user has chosen none, in that of their load."""
    labels = {id(figure): label_of(figure, figures) for figure in figures}
    if len(figures) > lines and not is_sorted:
        figures = sorted(figures, key=lambda figure: -figure.per_second)
    fitting, more = _fitting(figures, lines)
    longest = max((len(labels[id(figure)]) for figure in fitting), default=0)
    label_width = max(_LABEL_WIDTH, min(longest, width - _NUMBERS_WIDTH - 2 * _LEAST_SPARKS))
    sparks = (width - _NUMBERS_WIDTH - min(longest, label_width)) // 2
    sparks = max(_LEAST_SPARKS, min(_KEPT // 2, sparks))
    table = _table("model", "req/s", "", "p50", "p99", "", "rows/run", "fail/s", width=label_width)
    for figure in fitting:
        key = figure.model, figure.version, figure.signature
        failed = figure.failed / figure.seconds if figure.seconds else 0.0
        total = figure.stages["total"]
        table.add_row(
            escape(labels[id(figure)]),
            wording.number(figure.per_second),
            Text(wording.sparkline(list(history.loads[key]), sparks), style="cyan"),
            wording.duration(figure.us("total", 0.5)) if total.count else "-",
            wording.duration(figure.us("total", 0.99)) if total.count else "-",
            Text(wording.sparkline(list(history.lateness[key]), sparks), style="magenta"),
            wording.number(figure.rows_a_run) if figure.runs else "-",
            Text(wording.number(failed), style="bold red" if failed else ""),
        )
    if more:
        table.add_row(more)
    return table


def _workers(history: History, width: int, lines: int) -> Table:
    assert history.now is not None
    table = _table(
        "worker", "req/s", "in flight", "slots", "shared", "requests", width=width - _WORKER_NUMBERS_WIDTH
    )
    busiest = sorted(history.now["workers"], key=lambda worker: -history.per_second[worker["channel"]])
    fitting, more = _fitting(busiest, lines)
    for worker in fitting:
        table.add_row(
            escape(f"{worker['pid']} {history.titles.get(worker['pid'], '')}".strip()),
            wording.number(history.per_second[worker["channel"]]),
            *(str(worker["in_flight"]), str(worker["slots"])),
            wording.size(worker["shared_memory_bytes"]),
            wording.number(worker["requests"]),
        )
    if more:
        table.add_row(more)
    return table


def _table(first: str, *others: str, width: int = _LABEL_WIDTH) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title=" ", title_style="")
    table.add_column(first, no_wrap=True, overflow="ellipsis", max_width=width, header_style="bold")
    for title in others:
        table.add_column(title, justify="right" if title else "left", no_wrap=True, header_style="bold")
    return table


def _help() -> Table:
    table = _table("key", "")
    for key, what in HELP:
        table.add_row(key, what)
    return table


def _footer(note: str, view: TopView) -> RenderableType:
    keys = "  ".join(part for part in ("q quits, h helps", view.describe()) if part)
    return Group(
        Text(note, style="bold red", no_wrap=True, overflow="ellipsis"),
        Text(keys, style="dim", no_wrap=True, overflow="ellipsis"),
    )
