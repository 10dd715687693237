"""The demo's tables. Every number in them was measured in this run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from benchmarks.demo.load import LoadResult
from benchmarks.demo.processors import BUSY_SHARE
from benchmarks.demo.server_figures import ARBITER, BROKER, PARENT, WORKER, Counters, ServerFigures
from benchmarks.memory import MB

_BAR = 40
_NONE = "[dim]-[/]"


def tables(served: Sequence[ServerFigures], model_us: float) -> Iterable[RenderableType]:
    """All of them, with a sentence where a number needs one. `model_us` is what the model takes for one row."""
    brokered = served[0]
    assert brokered.counters is not None
    yield speed([each for each in served if each.load is not None])
    yield from disturbances(served)
    yield memory(served)
    if brokered.counters.batches:  # none if the app went around the broker, which a check then reports
        yield batches(brokered.counters)
        yield about_batches(model_us)
    if len(served) > 1:
        yield ratios(brokered, served[1])


def speed(served: Sequence[ServerFigures]) -> Table:
    """Requests and times of the servers that were loaded."""
    loads = [each.load for each in served if each.load is not None]
    table = _table("Speed", [each.title for each in served])
    table.add_row("requests/s", *(f"{load.rate:,.0f}" for load in loads))
    table.add_row("p50 of a request", *(_ms(load, 50) for load in loads))
    table.add_row("p99", *(_ms(load, 99) for load in loads))
    table.add_row("errors", *(f"{len(load.errors):,}" for load in loads))
    table.add_row("server's CPU per request", *(f"{s.cpu_us:,.0f} us" for s in served))
    table.add_section()
    table.add_row("worker's fork to first answer", *(f"{s.median_start:.2f} s" for s in served))
    table.add_row("the same, slowest worker", *(f"{s.slowest_start:.2f} s" for s in served))
    table.add_row("command to first answer", *(f"{s.first_answer:.2f} s" for s in served))
    return table


def disturbances(served: Sequence[ServerFigures]) -> Iterable[RenderableType]:
    """Loads during which the machine was not the demo's alone."""
    for each in served:
        if each.use is not None and each.use.others_share >= BUSY_SHARE:
            yield _prose(
                f"[yellow]Other programs used {each.use.others_share:.0%} of the processors during the load of "
                f"“{each.title}”: requests/s, p50 and p99 are worse than they would be alone.[/]\n"
            )


def memory(served: Sequence[ServerFigures]) -> Table:
    """PSS of each process, one column for each server."""
    table = _table(
        "Memory, MB (PSS: a page shared by n processes counts 1/n in each)", [s.title for s in served]
    )
    columns = [each.by_role() for each in served]
    for role in _roles(columns):
        table.add_row(role, *(_mb(column[role]) if role in column else _NONE for column in columns))
    table.add_section()
    table.add_row("all together", *(f"[bold]{_mb(each.pss_bytes)}[/]" for each in served))
    if len(served) > 1:
        bare = served[-1].worker_pss_bytes
        over = [f"+{_mb(each.worker_pss_bytes - bare)}" for each in served[:-1]]
        table.add_row("a worker over a bare one", *over, _NONE)
    return table


def batches(counters: Counters) -> Table:
    """The numbers of rows of the broker's runs."""
    table = _table("Batches that the broker ran", ["runs", "share", ""])
    total, most = sum(counters.batches.values()), max(counters.batches.values())
    for rows, runs in sorted(counters.batches.items()):
        bar = Text("█" * max(1, round(_BAR * runs / most)), style="cyan")
        table.add_row(f"{rows} row{'s' * (rows > 1)}", f"{runs:,}", f"{runs / total:.1%}", bar)
    table.columns[-1].justify = "left"
    return table


def about_batches(model_us: float) -> RenderableType:
    return _prose(
        f"A sync worker sends one row and waits for it, and this model takes {model_us:.0f} us for a row: there is "
        "seldom a second one to join. Heavier models, or workers with several requests in flight, make larger "
        "batches."
    )


def ratios(one: ServerFigures, other: ServerFigures) -> RenderableType:
    """The comparison in one sentence."""
    assert one.load is not None
    assert other.load is not None
    return _prose(
        f"\n{one.title.capitalize()}, beside {other.title}: [bold]{one.pss_bytes / other.pss_bytes:.2f} x[/] "
        f"the memory, [bold]{one.load.rate / other.load.rate:.2f} x[/] the requests/s, "
        f"[bold]{one.cpu_us / other.cpu_us:.2f} x[/] the CPU time for a request, "
        f"[bold]{one.median_start / other.median_start:.2f} x[/] the time until a new worker answers."
    )


def _prose(text: str) -> RenderableType:
    return Padding(Text.from_markup(text), (0, 2))


def _roles(columns: Sequence[dict[str, int]]) -> list[str]:
    """The rows, whichever columns have them: the broker's side first, unknown processes last."""
    found = dict.fromkeys(role for column in columns for role in column)
    known = [role for role in (BROKER, PARENT, ARBITER) if role in found]
    workers = sorted((r for r in found if r.startswith(WORKER)), key=lambda role: int(role.split()[-1]))
    return [*known, *workers, *(role for role in found if role not in known and role not in workers)]


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table("", title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _ms(load: LoadResult, percent: float) -> str:
    return f"{load.percentile_ms(percent):.2f} ms"


def _mb(nbytes: float) -> str:
    return f"{nbytes / MB:,.1f}"
