"""`python -m benchmarks peers`."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import report
from benchmarks.harness import run
from benchmarks.harness.interleaved import Pace
from benchmarks.harness.options import NamesType, NumbersType, common, count, seconds
from benchmarks.peers import summary
from benchmarks.peers.bench import MODELS, OtherSystemBench, target
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.environment import INSTALL_TIMEOUT_S, Environment, NotInstalled
from benchmarks.throughput.contenders import THREADS

WARM_UP_SHARE = 0.2
QUICK = {"workers": (2,), "threads": ("one",), "rounds": 1, "windows": 1, "seconds": 0.1}


@click.command()
@click.option(
    "--only",
    "names",
    type=NamesType(PEERS, "peer"),
    default=",".join(PEERS),
    metavar="NAME,...",
    help=f"Measure only these of {', '.join(PEERS)}.",
)
@click.option(
    "--list",
    "listing",
    is_flag=True,
    help="List the peers with their versions, and whether they are installed.",
)
@click.option("--model", type=click.Choice(MODELS), default="mlp", show_default=True, help="Model to serve.")
@click.option(
    "--workers",
    type=NumbersType(),
    default="1,8",
    show_default=True,
    help="Numbers of workers; each is measured.",
)
@click.option(
    "--threads",
    type=NamesType(THREADS, "setting"),
    default=",".join(THREADS),
    show_default=True,
    help="Intra-op threads of the peers' sessions: one, or TensorFlow's default.",
)
@count("--rounds", 3, "Number of times each arm is started.")
@count("--windows", 3, "Number of windows per start.")
@seconds(0.5)
@click.option(
    "--install-timeout",
    "install_timeout_s",
    default=INSTALL_TIMEOUT_S,
    show_default=True,
    type=click.FloatRange(1),
    help="Time limit in seconds for installing one peer.",
)
@click.option(
    "--add", is_flag=True, help="Keep the results of other peers and models that the JSON file has."
)
@common("peers")
def peers(
    names: tuple[str, ...],
    listing: bool,
    install_timeout_s: float,
    add: bool,
    seed: int,
    quick: bool,
    path: Path | None,
    model: str,
    **options: Any,
) -> None:
    """The same model through every other way to serve it, each beside the broker.

    A peer that does not come with this project gets an environment of its own, under the user's cache folder, made at
    its first run from PyPI; one that cannot be installed or started is left out with the reason. The callers are the
    same for all, every answer is checked, and the callable is the same, so that only what lies between differs. Arms
    are started, measured and ended in turns: nothing else runs meanwhile. All of them take about 40 minutes on two
    cores, which should have nothing else to do.
    """
    console = report.console()
    environments = [Environment(PEERS[name]) for name in names]
    if listing:
        console.print(_listing(environments))
        return
    _install(environments, install_timeout_s, console)
    options = {**options, **(QUICK if quick else {})}
    pace = Pace(options["seconds"], options["seconds"] * WARM_UP_SHARE, options["windows"], seed)
    sizes = (model, options["workers"], options["threads"], options["rounds"])
    path = path or report.RESULTS / f"peers-{datetime.now().astimezone():%Y%m%d-%H%M%S}.json"
    new = path.with_suffix(".part") if add and path.exists() else path
    lists = {name: list(value) for name, value in options.items() if isinstance(value, tuple)}
    try:
        run.run(
            "peers",
            [target(environment, model) for environment in environments],
            lambda directory, progress: OtherSystemBench(directory, progress, *sizes, pace, quick),
            {"model": model, **options, **lists, "seed": seed, "quick": quick},
            new,
        )
    finally:
        _sum_up(new, path, console)


def _install(environments: list[Environment], timeout_s: float, console: Console) -> None:
    """Before anything is measured, and before the run hides the user's cache folder from what it starts."""
    for environment in environments:
        if environment.own and environment.absent() is not None:
            console.print(f"installing {environment.peer.version}", markup=False, highlight=False)
        try:
            environment.install(timeout_s)
        except NotInstalled as error:
            console.print(f"{environment.peer.name}: {error}", style="yellow", markup=False, highlight=False)


def _sum_up(new: Path, path: Path, console: Console) -> None:
    """Put what was measured now beside what `path` has of other peers and models, and print the tables of all."""
    if not new.exists():
        return
    document = json.loads(new.read_text())
    if new != path:
        before = json.loads(path.read_text())
        about = {"machine": before["machine"], "started": before["started"]}
        kept = {name: {**about, **result} for name, result in before["targets"].items()}
        document["targets"] = {**kept, **document["targets"]}
        report.write(document, path)
        new.unlink()
    for table in summary.tables(document):
        console.print()
        console.print(table)


def _listing(environments: list[Environment]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for heading in ("peer", "what", "version", "installed"):
        table.add_column(heading)
    for environment in environments:
        peer, why = environment.peer, environment.absent()
        version = "\n".join(peer.requirements) or "this environment"
        table.add_row(peer.name, peer.label, escape(version), escape(why or "yes"))
    return table
