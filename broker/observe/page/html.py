"""The page as HTML, from what `view.py` has put together. It needs nothing from elsewhere, and no script to be read."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from broker.counters.counted import counted
from broker.observe import formatting as wording
from broker.observe.page.markup import Cells, Html, element, together
from broker.observe.page.models_part import ModelsPart
from broker.observe.summary import Figures, label_of, shown

Message = Mapping[str, Any]

_FOLDER = Path(__file__).parent
_STYLE = (_FOLDER / "style.css").read_text()
_SCRIPT = (_FOLDER / "script.js").read_text()
_REFRESH_SECONDS = "5"
_MOST_SIGNATURES = 300
_MOST_WORKERS = 100


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src {_source(_STYLE)}",
        f"script-src {_source(_SCRIPT)}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The Content-Security-Policy: what a page may do that shows names of others."""


@dataclass(frozen=True, slots=True)
class Page:
    """`shape` is the same for pages that differ in nothing but the texts of their cells."""

    html: str
    shape: str
    cells: list[str]


def rendered(report: Message, found: list[Figures], now: dict[str, Any]) -> Page:
    """`report` is what the page says, `found` the figures of each signature, `now` the answer that they are of."""
    cells = Cells()
    body = together(
        _header(report, cells),
        element("p", id="note", role="status"),
        cells.cell(_alarms(report), "p", class_="alarm"),
        _tiles(report, found, cells),
        _load(shown(found, now), cells),
        _workers(report, cells),
        element("h2", "Models"),
        *ModelsPart(found, report["name"], cells).cards(report["models"]),
        _elsewhere(report),
    )
    shape = hashlib.sha256(body.encode()).hexdigest()[:16]
    return Page(_document(report["name"], cells.filled(body), shape), shape, cells.texts)


def _document(name: str, body: Html, shape: str) -> str:
    refresh = element("noscript", Html(f'<meta http-equiv="refresh" content="{_REFRESH_SECONDS}">'))
    head = together(
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("title", f"onesession: {name}"),
        Html('<link rel="icon" href="data:,">'),
        refresh,
        element("style", Html(_STYLE)),
    )
    script = element("script", Html(_SCRIPT))
    page = element("html", element("head", head), element("body", body, script), lang="en", data_shape=shape)
    return f"<!DOCTYPE html>\n{page}\n"


def _header(report: Message, cells: Cells) -> Html:
    restarts = f", {counted(report['restarts'], 'restart')}" if report["restarts"] else ""
    age = cells.cell(f"pid {report['pid']}, up {wording.age(report['uptime_seconds'])}{restarts}", "small")
    links = [
        element("a", path, href=path.lstrip("/"))
        for path in ("/metrics", "/livez", "/readyz", "/status.json")
    ]
    return element(
        "header",
        element("h1", f"onesession broker {report['name']} ", age),
        element("nav", *links, *_manual()),
    )


def _manual() -> Iterator[Html]:
    """A link to the documentation, if the installed package says where that is."""
    try:
        lines = metadata.metadata("onesession").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        label, _, address = line.partition(", ")
        if label.lower() == "documentation" and address.startswith("https://"):
            yield element("a", "documentation", href=address, rel="noreferrer")


def _alarms(report: Message) -> str:
    """What is wrong, if anything."""
    faults = [f"{name.replace('_', ' ')}: {times:,}" for name, times in report["faults"].items() if times]
    refused = [f"refused without a model: {times:,} {kind}" for kind, times in report["refused"].items()]
    return "; ".join([*(run["text"] for run in report["long_runs"]), *faults, *refused])


def _tiles(report: Message, found: Sequence[Figures], cells: Cells) -> Html:
    memory, process, waiting = report["shared_memory"], report["process"], report["waiting"]
    slots = ", ".join(f"{count} {state}" for state, count in report["slots"].items() if count) or "none"
    rows = sum(queue["rows"] for queue in report["queues"].values())
    way, _, why = wording.how_they_wait(waiting).partition(" (")
    facts = (
        ("requests/s", wording.number(sum(each.per_second for each in found)), ""),
        ("workers", str(len(report["workers"])), ""),
        ("failed", wording.number(sum(each.failed for each in found)), ""),
        ("rows that wait", wording.number(rows), ""),
        ("memory", wording.size(process["resident_bytes"]), f"{report['cpu_share']:.0%} of a CPU"),
        ("shared memory", wording.size(memory["bytes"]), f"of {wording.size(memory['limit'])}"),
        ("slots", str(sum(report["slots"].values())), slots),
        ("waiting workers", way, why.rstrip(")")),
    )
    span = cells.cell(
        f"Rates and times (p50 / p99) are of the last {wording.age(report['seconds'])}.", "p", class_="dim"
    )
    return together(
        element("dl", *(_tile(cells, *fact) for fact in facts), class_="tiles"),
        span,
    )


def _tile(cells: Cells, name: str, value: str, more: str) -> Html:
    return element("div", element("dt", name), element("dd", cells.cell(value), cells.cell(more, "small")))


def _load(figures: list[Figures], cells: Cells) -> Html:
    """The models as `onesession top` lists them."""
    columns = (
        ("model", "text"),
        ("req/s", ""),
        ("p50", ""),
        ("p99", ""),
        ("rows/run", "wide"),
        ("failed", ""),
    )
    rows = []
    for figure in figures[:_MOST_SIGNATURES]:
        texts = (
            wording.number(figure.per_second),
            wording.duration(figure.us("total", 0.5)),
            wording.duration(figure.us("total", 0.99)),
            wording.number(figure.rows_a_run) if figure.runs else "-",
            wording.number(figure.failed),
        )
        rows.append((label_of(figure, figures), *texts))
    return together(
        element("h2", "Load"),
        _table(columns, rows, cells),
        *_more(len(figures) - _MOST_SIGNATURES, "signature", "stats"),
    )


def _workers(report: Message, cells: Cells) -> Html:
    columns = (
        *(("pid", ""), ("process", "text"), ("req/s", ""), ("in flight", "")),
        *(("slots", "wide"), ("shared", "wide"), ("requests", "wide")),
    )
    workers = report["workers"]
    rows = [
        (
            *(str(worker["pid"]), worker.get("title", "")),
            *(wording.number(worker["requests_per_second"]), str(worker["in_flight"]), str(worker["slots"])),
            *(wording.size(worker["shared_memory_bytes"]), wording.number(worker["requests"])),
        )
        for worker in workers[:_MOST_WORKERS]
    ]
    table = _table(columns, rows, cells) if rows else element("p", "No worker is attached.", class_="dim")
    return together(element("h2", "Workers"), table, *_more(len(workers) - _MOST_WORKERS, "worker", "top"))


def _table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]], cells: Cells) -> Html:
    """Each column with its class."""
    head = element("tr", *(element("th", title, class_=kind) for title, kind in columns))
    lines = [
        element("tr", *(cells.cell(text, "td", class_=kind) for text, (_, kind) in zip(row, columns)))
        for row in rows
    ]
    return element("table", element("thead", head), element("tbody", *lines))


def _more(number: int, noun: str, command: str) -> Iterator[Html]:
    if number > 0:
        yield element(
            "p", f"And {counted(number, f'more {noun}')}: ", element("code", f"onesession {command}")
        )


def _elsewhere(report: Message) -> Html:
    """Lines for a shell."""
    lines: list[str] = []
    for address in report["metrics"]:
        path = address.removeprefix("unix:")
        at = f"--unix-socket {path} http://localhost" if address.startswith("unix:") else address
        lines += [f"curl -s {at}/{page}" for page in ("metrics", "readyz", "status.json")]
    named = "" if report["name"] == "default" else f" --name {report['name']}"
    lines += [f"onesession {command}{named}" for command in ("top", "stats", "models", "doctor")]
    return together(
        element("h2", "In a shell"),
        element("pre", element("code", "\n".join(lines))),
        element(
            "footer",
            f"onesession {report['version']}. Times are the median and the 99th percentile, accurate to 25 %, ",
            "from a request's submission until its answer is in shared memory.",
        ),
    )
