"""All peers of a document in one table: each beside the broker that took turns with it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.peers.bench import BROKER, model_of

_HEADINGS = (
    "threads",
    "answers/s",
    "broker's",
    "broker\n/ peer",
    "p50, us",
    "broker's",
    "CPU s\n/1,000",
    "PSS, MB",
    "broker's",
    "start,\ns",
)


def tables(document: dict[str, Any]) -> Iterator[Table]:
    """One for each model and number of workers. `document` is what `python -m benchmarks peers` writes."""
    models = dict.fromkeys(filter(None, map(model_of, document["targets"])))
    for model, workers in product(models, document["options"]["workers"]):
        title = f"{model}, {workers} {'worker' if workers == 1 else 'workers'}"
        table = Table(
            title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
        )
        table.add_column("peer", no_wrap=True)
        for heading in _HEADINGS:
            table.add_column(
                heading, justify="right", no_wrap=True, min_width=max(map(len, heading.split("\n")))
            )
        for name, target in document["targets"].items():
            if model_of(name) != model:
                continue
            for row in _rows(target["arms"], workers):
                table.add_row(*row)
        yield table


def _rows(arms: dict[str, dict[str, Any]], workers: int) -> Iterator[list[str]]:
    broker = arms.get(f"{BROKER}-{workers}")
    for arm in arms.values():
        if broker is None or arm is broker or arm["workers"] != workers:
            continue
        ours, theirs = broker["per_s"]["median"], arm["per_s"]["median"]
        yield [
            arm["label"],
            arm["threads"],
            f"{theirs:,.0f}",
            f"{ours:,.0f}",
            f"[bold]{ours / theirs:.2f} x[/]",
            f"{arm['p50_us']['median']:,.1f}",
            f"{broker['p50_us']['median']:,.1f}",
            f"{arm['cpu_s_per_1000']['median']:.3g}",
            f"{arm['memory_mb_median']:,.0f}",
            f"{broker['memory_mb_median']:,.0f}",
            f"{arm['start_s_median']:.1f}",
        ]
