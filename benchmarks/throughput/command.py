"""`python -m benchmarks throughput`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.harness import run
from benchmarks.harness.bout import Pace
from benchmarks.throughput.bench import Bench
from benchmarks.throughput.image import T7
from benchmarks.throughput.neighbour import T8
from benchmarks.throughput.small import T3
from benchmarks.throughput.waiting import WAITING

TARGETS = run.named((T3, T7, T8, WAITING))
WARM_UP_SHARE = 0.2
LEAST_WARM_UP_S = 0.1
QUICK = {"workers": (2,), "windows": 1, "seconds": 0.1}


class NumbersType(click.ParamType):
    """`1,8,16`"""

    name = "numbers"

    def convert(self, value: Any, param: Any, context: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        texts = value.split(",")
        if not all(text.strip().isdecimal() and int(text) for text in texts):
            self.fail(f"{value!r} is not a list of whole numbers such as 1,8", param, context)
        return tuple(dict.fromkeys(int(text) for text in texts))


class TargetsType(click.ParamType):
    """`T3,T7`"""

    name = "targets"

    def convert(self, value: Any, param: Any, context: Any) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        known = {name.lower(): name for name in TARGETS}
        chosen = [text.strip().lower() for text in value.split(",")]
        unknown = [text for text in chosen if text not in known]
        if unknown:
            self.fail(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}", param, context)
        return tuple(name for text, name in known.items() if text in chosen)


@click.command()
@click.option(
    "--target", "names", type=TargetsType(), default=",".join(TARGETS), show_default=True, help="Only these."
)
@click.option("--workers", type=NumbersType(), default="1,2,4,8,16", show_default=True, help="The sweep.")
@click.option(
    "--windows", default=10, show_default=True, type=click.IntRange(1), help="Of each arm, at most."
)
@click.option(
    "--seconds", default=1.0, show_default=True, type=click.FloatRange(0.05), help="Length of a window."
)
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of the inputs.")
@click.option(
    "--quick", is_flag=True, help="Everything once and short, to see that it runs: no figures to trust."
)
@click.option(
    "--json",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write all figures; default benchmarks/results/throughput-TIME.json.",
)
def throughput(
    names: tuple[str, ...],
    workers: tuple[int, ...],
    windows: int,
    seconds: float,
    seed: int,
    quick: bool,
    path: Path | None,
) -> None:
    """T3, T7 and T8 of TARGETS.md, and waiting: many workers at once beside the other ways to serve them.

    Every arm runs in processes of its own, in windows that take turns until the last three are alike; every answer is
    checked. Takes about a quarter of an hour on two cores, which should have nothing else to do.
    """
    options: dict[str, Any] = {"workers": workers, "windows": windows, "seconds": seconds}
    if quick:
        options = QUICK
    pace = Pace(options["seconds"], _warm_up_s(options["seconds"]), options["windows"], seed)
    run.run(
        "throughput",
        [TARGETS[name] for name in names],
        lambda directory, progress: Bench(directory, progress, options["workers"], pace, quick),
        {**options, "workers": list(options["workers"]), "seed": seed, "quick": quick},
        path,
    )


def _warm_up_s(seconds: float) -> float:
    return max(LEAST_WARM_UP_S, seconds * WARM_UP_SHARE)
