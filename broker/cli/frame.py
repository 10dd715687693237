"""What `broker top` shows: a frame of text from the broker's statistics over the last minute. Draws, asks nobody."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from broker.cli import wording
from broker.cli.stats import label_of
from broker.observe.figures import Figures, figures

_KEPT = 60
_SPARK_WIDTH = 14
_LINES_AROUND = 9  # header, titles, rules and footer
_LEAST_WORKERS = 2

Message = dict[str, Any]


class History:
    """The figures of the last times, and for each model how its load and its latency went."""

    def __init__(self) -> None:
        self.now: Message | None = None
        self.figures: list[Figures] = []
        self.cpu_share = 0.0
        self.per_second: dict[int, float] = {}  # of each worker
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
        done = {worker["pid"]: worker["requests"] for worker in before["workers"]} if before else {}
        self.per_second = {
            worker["pid"]: max(0, worker["requests"] - done.get(worker["pid"], 0)) / max(seconds, 1e-3)
            for worker in now["workers"]
        }
        for figure in self.figures:
            key = figure.model, figure.version, figure.signature
            self.loads.setdefault(key, deque(maxlen=_KEPT)).append(figure.per_second)
            self.lateness.setdefault(key, deque(maxlen=_KEPT)).append(figure.us("total", 0.99))


def frame(history: History, height: int, note: str = "") -> RenderableType:
    """At most `height` lines, readable from 80 columns on. `note` says what is wrong, if anything is."""
    if history.now is None:
        return Group(Text(note or "waiting for the broker"), _footer(""))
    room = max(2, height - _LINES_AROUND)
    shown = history.figures[: max(1, room - _LEAST_WORKERS)]
    workers = max(_LEAST_WORKERS, room - len(shown))
    return Group(
        *_header(history.now, history.cpu_share, sum(f.per_second for f in history.figures)),
        _models(history, shown),
        _workers(history, workers),
        _footer(note),
    )


def _header(now: Message, cpu_share: float, per_second: float) -> list[Text]:
    memory, process = now["shared_memory"], now["process"]
    slots = now["slots"]
    first = f"broker {now['pid']}, up {wording.age(now['uptime_seconds'])}"
    if now["restarts"]:
        first += f", {now['restarts']} restarts"
    first += f"   {wording.number(per_second)} requests/s   {len(now['workers'])} workers"
    second = (
        f"CPU {cpu_share:.0%}   memory {wording.size(process['resident_bytes'])}   "
        f"shared {wording.size(memory['bytes'])} of {wording.size(memory['limit'])}"
    )
    third = "slots: " + ", ".join(f"{count} {state}" for state, count in slots.items() if count)
    waits = [f"{model} {queue['rows']} rows" for model, queue in now["queues"].items() if queue["rows"]]
    if waits:
        third += "   waiting: " + ", ".join(waits)
    lines = [Text(text, no_wrap=True, overflow="ellipsis") for text in (first, second, third)]
    lines[0].stylize("bold")
    return lines


def _models(history: History, shown: list[Figures]) -> Table:
    table = _table("model", "req/s", "", "p50", "p99", "", "rows/run", "failed/s")
    for figure in shown:
        key = figure.model, figure.version, figure.signature
        failed = figure.failed / figure.seconds if figure.seconds else 0.0
        total = figure.stages["total"]
        table.add_row(
            escape(label_of(figure, history.figures)),
            wording.number(figure.per_second),
            Text(wording.sparkline(list(history.loads[key]), _SPARK_WIDTH), style="cyan"),
            wording.duration(figure.us("total", 0.5)) if total.count else "-",
            wording.duration(figure.us("total", 0.99)) if total.count else "-",
            Text(wording.sparkline(list(history.lateness[key]), _SPARK_WIDTH), style="magenta"),
            f"{figure.rows_a_run:.1f}" if figure.runs else "-",
            Text(wording.number(failed), style="bold red" if failed else ""),
        )
    return table


def _workers(history: History, most: int) -> Table:
    assert history.now is not None
    table = _table("worker", "req/s", "in flight", "slots", "shared", "requests")
    busiest = sorted(history.now["workers"], key=lambda worker: -history.per_second[worker["pid"]])
    for worker in busiest[:most]:
        table.add_row(
            str(worker["pid"]),
            wording.number(history.per_second[worker["pid"]]),
            *(str(worker["in_flight"]), str(worker["slots"])),
            wording.size(worker["shared_memory_bytes"]),
            wording.number(worker["requests"]),
        )
    if len(busiest) > most:
        table.add_row(f"and {len(busiest) - most} more")
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title=" ", title_style="")
    table.add_column(first, no_wrap=True, overflow="ellipsis", max_width=18, header_style="bold")
    for title in others:
        table.add_column(title, justify="right" if title else "left", no_wrap=True, header_style="bold")
    return table


def _footer(note: str) -> RenderableType:
    return Group(
        Text(note, style="bold red", no_wrap=True, overflow="ellipsis"), Text("q quits", style="dim")
    )
