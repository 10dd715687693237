"""A SweepOutcome as a Markdown page."""

from __future__ import annotations

from collections.abc import Sequence

from broker.bench.outcome import SweepOutcome
from broker.bench.report import rows

_HOW = """\
Each case is a number of workers (forked processes) with requests of so many rows. A closed loop sends the next request
when the one before is answered; with a rate, requests are planned beforehand, and a request's time counts from its
planned moment, so that a stall counts for all those that it kept waiting. Latency is what the caller sees, copies into
and out of shared memory included. CPU and memory are those of the workers and the broker together, memory as PSS."""


def page(outcome: SweepOutcome, command: str, plots: Sequence[str] = ()) -> str:
    """`command` is what made it, `plots` the names of pictures beside the page."""
    parts = [f"# Benchmark of {outcome.model}\n", f"`{command}`\n"]
    parts += [_table(["", ""], [[name, text] for name, text in rows.facts(outcome)], 2)]
    for table in rows.tables(outcome):
        parts += [f"## {table.title}\n", _table(table.columns, table.lines, table.left)]
    notes = rows.notes(outcome)
    if notes:
        parts += ["## Mind\n", "\n".join(f"- {_escaped(note)}" for note in notes) + "\n"]
    if plots:
        parts += ["## Plots\n", "\n".join(f"![{plot.rpartition('.')[0]}]({plot})\n" for plot in plots)]
    parts += ["## How it was measured\n", _HOW + "\n"]
    return "\n".join(parts)


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]], left: int) -> str:
    rule = ["---" if number < left else "---:" for number in range(len(columns))]
    written = [columns, rule, *[[_escaped(cell) for cell in line] for line in lines]]
    return "\n".join(f"| {' | '.join(line)} |" for line in written) + "\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("~", "\\~")
