"""`onesession bench`: measures the user's own model on this machine, through the broker and beside it."""

from __future__ import annotations

import json
import os
import random
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from broker.bench.answers import TOLERANCE
from broker.bench.arms.in_process import InProcessCall
from broker.bench.model_under_test import ModelUnderTest
from broker.bench.outcome import SweepOutcome
from broker.bench.plan import ARRIVALS, POISSON, Load, SweepPlan
from broker.bench.report import markdown, plots, screen
from broker.bench.sweep import OnProgress, Questions, Sweep
from broker.cli.completion import BrokerName
from broker.cli.model_settings import with_settings
from broker.cli.numbers import FLOATS, INTEGERS
from broker.cli.option_groups import OF_BENCH, GroupedCommand
from broker.cli.options import reported_errors
from broker.cli.sigterm import ended_by_sigterm
from broker.config.model_argument import spec_of
from broker.config.settings import Tune
from broker.counters.counted import counted
from broker.models.files.reading import reading
from worker_client.interpreter.surroundings import import_from_here
from worker_client.wire.address import first_served, places
from worker_client.wire.errors import InvalidInput

_DEFAULT = SweepPlan()
_CALLS = [call.value for call in InProcessCall]


@click.command(cls=GroupedCommand, groups=OF_BENCH)
@click.argument("model", metavar="[NAME=]SOURCE | NAME")
@click.option(
    "--name",
    type=BrokerName(),
    metavar="NAME|PATH",
    help="Measure a running broker, given by its name or socket path. MODEL then names a model that it serves; "
    "write NAME=SOURCE to use --compare as well.  [default: start a broker for SOURCE]",
)
@click.option(
    "--signature", metavar="NAME", help="The signature to call.  [default: the model's default signature]"
)
@click.option(
    "--workers",
    type=INTEGERS,
    default="1,2,4,8",
    show_default=True,
    help="Worker processes; each number is measured.",
)
@click.option(
    "--rows",
    type=INTEGERS,
    default="1,8",
    show_default=True,
    help="Rows per request; each number is measured.",
)
@click.option(
    "--concurrency",
    type=INTEGERS,
    default="1",
    show_default=True,
    help="Maximum concurrent calls per worker, each in its own thread.",
)
@click.option(
    "--rate",
    type=FLOATS,
    metavar="PER SECOND",
    help="Open loop: requests per second from all workers together, scheduled in advance; latency is measured from "
    "the scheduled time.  [default: closed loop]",
)
@click.option(
    "--arrivals",
    type=click.Choice(ARRIVALS),
    default=POISSON,
    show_default=True,
    help="Distribution of the arrivals for --rate.",
)
@click.option(
    "--compare",
    type=click.Choice(_CALLS),
    multiple=True,
    help="Also measure the model inside each worker process, called this way: Session.run, the signature from "
    "tf.saved_model.load, or the bare callable that the broker runs. May be given several times.",
)
@click.option(
    "--input",
    "input_",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Inputs to send: .npz (an array for each input), .npy or .json.  [default: generated from the signature]",
)
@click.option(
    "--shape",
    multiple=True,
    metavar="INPUT=SIZES",
    help="Sizes of an input's free dimensions: its shape without the rows, such as ids=128 or image=224,224,3.",
)
@click.option(
    "--set", "set_", multiple=True, metavar="MODEL.SETTING=VALUE", help="As for `onesession serve`."
)
@click.option(
    "--tune/--no-tune", default=None, help="As for `onesession serve`.  [default: $BROKER_TUNE, else tune]"
)
@click.option(
    "--window",
    default=_DEFAULT.window_s,
    show_default=True,
    type=click.FloatRange(0.05, 60),
    help="Length of a measuring window in seconds.",
)
@click.option(
    "--windows",
    default=_DEFAULT.most_windows,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="Maximum windows per case; a case ends when three in a row agree.",
)
@click.option(
    "--within",
    default=100 * _DEFAULT.within,
    show_default=True,
    type=click.FloatRange(0.1, 100),
    help="Largest difference between windows that agree, in percent of requests/s and of latency.",
)
@click.option(
    "--percentile",
    default=_DEFAULT.percentile,
    show_default=True,
    type=click.FloatRange(0, 100),
    help="Latency percentile on which the windows must agree.",
)
@click.option(
    "--seconds",
    default=_DEFAULT.limit_s,
    show_default=True,
    type=click.FloatRange(1, 86_400),
    help="Start no new case after this many seconds.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.001, 3600),
    help="Timeout of a call in seconds.  [default: the model's]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    help="Random seed of inputs and arrivals.  [default: a new one]",
)
@click.option(
    "--check/--no-check",
    default=True,
    show_default=True,
    help="Compare the answers with those of the same model called directly, one request at a time.",
)
@click.option(
    "--tolerance",
    default=TOLERANCE,
    show_default=True,
    type=click.FloatRange(0),
    help="Largest difference that --check accepts, relative to the largest value.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write bench.json, report.md and plots to this folder.",
)
@click.option(
    "--plots/--no-plots",
    "plots_",
    default=None,
    help="Write PNG plots next to the report.  [default: if matplotlib is installed]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def bench(model: str, name: str | None, **options: Any) -> None:
    """Measure your own model on this machine, called by workers through the broker.

    Starts a broker for SOURCE and forks real workers that use worker_client. Measures every number of workers with
    every number of rows, in windows that are repeated until three in a row agree, and checks the answers. The table
    shows requests and rows per second, latency as the caller sees it, where that time goes, CPU time and memory.
    """
    import_from_here()
    output: Path | None = options["output"]
    with reported_errors(), ended_by_sigterm():
        if options["plots_"] and not plots.available():
            raise InvalidInput(plots.MISSING)
        under_test = _model_under_test(model, name, options)
        plan = _plan(options)
        questions = Questions(
            options["input_"], _shapes(options["shape"]), options["tolerance"], options["check"]
        )
        calls = [InProcessCall(value) for value in dict.fromkeys(options["compare"])]
        _announce(plan, 1 + len(calls))
        with _progress() as on_progress:
            outcome = Sweep(under_test, plan, calls, questions, on_progress).run()
        if output is not None:
            _write(outcome, output, options["plots_"])
    if options["as_json"]:
        click.echo(json.dumps(outcome.to_json(), indent=2))
    else:
        screen.show(outcome, Console())
    if output is not None:
        click.echo(f"written to {output}", err=True)


def _model_under_test(model: str, name: str | None, options: dict[str, Any]) -> ModelUnderTest:
    """Raises InvalidInput."""
    signature = options["signature"]
    if name is not None and "=" not in model:
        if options["compare"]:
            raise InvalidInput(
                f"--compare needs the model itself, to load it in each worker: write {model}=SOURCE in place of {model}"
            )
        return ModelUnderTest(model, None, os.fspath(first_served(places(name))), signature)
    (spec,) = with_settings([spec_of(model)], options["set_"])
    if name is not None:
        return ModelUnderTest(spec.name, spec, os.fspath(first_served(places(name))), signature)
    with reading(spec):
        there = Path(spec.source).expanduser().exists()
    if not spec.is_function and not there and "://" not in spec.source:
        raise InvalidInput(
            f"there is no model at {spec.source!r}: give the path of one, or module:function; "
            "for a model that a broker serves already, say which broker: --name NAME|PATH"
        )
    tune = options["tune"]
    chosen = {} if tune is None else {"tune": (Tune.AUTO if tune else Tune.OFF).value}
    return ModelUnderTest(spec.name, spec, None, signature, chosen)


def _plan(options: dict[str, Any]) -> SweepPlan:
    rates = options["rate"] or (None,)
    loads = [
        Load(concurrency, rate, options["arrivals"])
        for concurrency in options["concurrency"]
        for rate in rates
    ]
    seed = options["seed"]
    return SweepPlan(
        workers=options["workers"],
        rows=options["rows"],
        loads=tuple(loads),
        window_s=options["window"],
        most_windows=options["windows"],
        within=options["within"] / 100,
        percentile=options["percentile"],
        limit_s=options["seconds"],
        timeout_s=options["timeout"],
        seed=random.SystemRandom().randrange(2**32) if seed is None else seed,
    )


def _shapes(texts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Raises InvalidInput."""
    found = {}
    for text in texts:
        name, equals, sizes = text.partition("=")
        try:
            found[name] = tuple(int(size) for size in sizes.split(",") if size.strip())
        except ValueError:
            equals = ""
        if not (name and equals) or any(size < 0 for size in found[name]):
            raise InvalidInput(f"--shape {text}: expected INPUT=SIZES, such as ids=128 or image=224,224,3")
    return found


def _announce(plan: SweepPlan, arms: int) -> None:
    cases = counted(len(list(plan.cases())), "case")
    seconds = min(plan.most_seconds(arms), plan.limit_s)
    starts = counted(arms * len(plan.workers), "start")
    click.echo(
        f"seed {plan.seed}; {cases}: at most {seconds:.0f} s of load, and {starts} of workers beside it",
        err=True,
    )


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A progress bar on the terminal; nothing if stderr is not a terminal."""
    columns = (
        SpinnerColumn(),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda share, text: bar.update(task, completed=share, description=escape(text))


def _write(outcome: SweepOutcome, folder: Path, wanted: bool | None) -> None:
    """Raises InvalidInput if the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made: list[str] = []
        if wanted or (wanted is None and plots.available()):
            made = plots.write(outcome, folder)
        elif wanted is None:
            click.echo(plots.MISSING, err=True)
        command = shlex.join(["broker", *sys.argv[1:]])
        (folder / "bench.json").write_text(json.dumps(outcome.to_json(), indent=2) + "\n")
        (folder / "report.md").write_text(markdown.page(outcome, command, made))
    except OSError as error:
        raise InvalidInput(f"{folder} cannot be written: {error.strerror}") from None
