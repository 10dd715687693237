"""A SweepOutcome on the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from broker.bench.outcome import SweepOutcome
from broker.bench.report import rows


def show(outcome: SweepOutcome, console: Console) -> None:
    for name, text in rows.facts(outcome):
        console.print(f"[bold]{name:<10}[/]{escape(text)}", highlight=False, soft_wrap=True)
    for table in rows.tables(outcome):
        console.print(f"\n[bold]{table.title}[/]")
        console.print(_rich(table))
    for note in rows.notes(outcome):
        console.print(escape(note), style="yellow", highlight=False, soft_wrap=True)


def _rich(table: rows.ReportTable) -> RichTable:
    shown = RichTable(box=SIMPLE_HEAD, pad_edge=False, padding=0)
    for number, title in enumerate(table.columns):
        words = number < table.left and title not in ("workers", "rows")
        shown.add_column(title.replace(" ", "\n"), justify="left" if words else "right", no_wrap=True)
    before = ""
    for line in table.lines:
        if before and line[0] != before:
            shown.add_section()
        before = line[0]
        shown.add_row(*map(escape, line))
    return shown
