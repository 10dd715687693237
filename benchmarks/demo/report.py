"""The demo's tables. Every number in them was measured in this run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.demo.measured import ARBITER, BROKER, PARENT, Served
from benchmarks.memory import MB

_BAR = 40


def speed(served: Sequence[Served]) -> RenderableType:
    """Requests and their times, one column for each server that was loaded."""
    loaded = [each for each in served if each.load is not None]
    table = _table("Speed", [each.title for each in loaded])
    rows: dict[str, Callable[[Served], str]] = {
        "requests/s": lambda each: f"{each.load.rate:,.0f}",  # type: ignore[union-attr]
        "p50": lambda each: f"{each.load.percentile_ms(50):.2f} ms",  # type: ignore[union-attr]
        "p99": lambda each: f"{each.load.percentile_ms(99):.2f} ms",  # type: ignore[union-attr]
        "errors": lambda each: f"{len(each.load.errors):,}",  # type: ignore[union-attr]
        "worker's fork to first answer, median": lambda each: f"{each.median_start:.2f} s",
        "slowest worker": lambda each: f"{max(start.seconds for start in each.starts):.2f} s",
    }
    for name, value in rows.items():
        table.add_row(name, *(value(each) for each in loaded))
    return table


def memory(served: Sequence[Served]) -> RenderableType:
    """PSS of each process, one column for each server."""
    table = _table("Memory in MB (PSS: shared pages divided among their users)", [s.title for s in served])
    columns = [each.by_role() for each in served]
    for role in _roles(columns):
        values = (column.get(role) for column in columns)
        table.add_row(role, *(_mb(value.pss_bytes) if value is not None else "[dim]-[/]" for value in values))
    table.add_section()
    table.add_row("all together", *(f"[bold]{_mb(each.pss_bytes)}[/]" for each in served))
    bare = served[-1].worker_pss_bytes
    if len(served) > 1:
        over = [f"+{_mb(each.worker_pss_bytes - bare)}" for each in served[:-1]]
        table.add_row("a worker over the bare app's", *over, "[dim]0.0[/]")
    return table


def batches(served: Served) -> RenderableType:
    """How many rows the broker's runs had."""
    table = _table("Batches that the broker ran", ["runs", "share", ""])
    total = sum(served.batches.values())
    most = max(served.batches.values())
    for rows, runs in served.batches.items():
        bar = Text("█" * max(1, round(_BAR * runs / most)), style="cyan")
        table.add_row(f"{rows} row{'s' if rows > 1 else ''}", f"{runs:,}", f"{runs / total:.1%}", bar)
    table.columns[-1].justify = "left"
    return table


def ratios(one: Served, other: Served) -> str:
    """The comparison in one sentence."""
    assert one.load is not None
    assert other.load is not None
    return (
        f"One session for all takes [bold]{one.pss_bytes / other.pss_bytes:.2f} x[/] the memory of "
        f"{other.title}, answers [bold]{one.load.rate / other.load.rate:.2f} x[/] the requests a second, and a "
        f"new worker is there in [bold]{one.median_start / other.median_start:.2f} x[/] the time."
    )


def about_batches(served: Served) -> str:
    return (
        "A sync worker sends one row and waits for it, and a run of this model takes "
        f"{served.run_us:.0f} us: there is seldom a second row to join. Heavier models and workers with many "
        "requests in flight make larger batches."
    )


def _roles(columns: Sequence[dict[str, object]]) -> list[str]:
    """The rows, whichever columns have them: the broker's side first, unknown ones last."""
    found = dict.fromkeys(role for column in columns for role in column)
    first = [role for role in (BROKER, PARENT, ARBITER) if role in found]
    workers = sorted((r for r in found if r.startswith("gunicorn worker")), key=lambda r: int(r.split()[-1]))
    return [*first, *workers, *(role for role in found if role not in first and role not in workers)]


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table("", title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _mb(nbytes: float) -> str:
    return f"{nbytes / MB:,.1f}"
