"""`onesession tune`: measures models now and shows the table; the broker does the same when it first loads one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table as RichTable

from broker.cli.model_settings import with_settings
from broker.cli.options import reported_errors, setting_option
from broker.config.logs import LogLevel, log_to_stderr
from broker.config.model_argument import spec_of
from broker.counters.counted import counted
from broker.models.files.reading import reading
from broker.models.spec import ModelSpec
from broker.tuning import race, tuner
from broker.tuning.choice import Choice
from broker.tuning.records import Records, TuningRecord
from broker.tuning.setting import RunSetting, SampleTable
from broker.tuning.tuner import OnProgress, Switch, TunedModel
from worker_client.wire.errors import BrokerError, InvalidInput


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]SOURCE...")
@setting_option("tune_seconds", "--seconds")
@click.option("--set", "set_", multiple=True, metavar="MODEL.SETTING=VALUE", help="Fix a setting by hand.")
@setting_option("onednn", help="Measure with oneDNN on and off, or with one of them.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option(
    "--write",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the chosen settings into this configuration file (TOML).",
)
@click.option("--forget", is_flag=True, help="Delete the records of these models and measure nothing.")
def tune(
    models: tuple[str, ...],
    seconds: float,
    set_: tuple[str, ...],
    onednn: str,
    as_json: bool,
    write: Path | None,
    forget: bool,
) -> None:
    """Find the best settings for SavedModels on this machine, show them and remember them for the broker.

    Each model is measured by itself. oneDNN is a single switch for the whole process, so it is chosen for all of them
    together.
    """
    log_to_stderr(LogLevel.WARNING.value)
    records = Records()
    with reported_errors():
        specs = with_settings(ModelSpec.coerce_all([spec_of(text) for text in models]), set_)
        switch = Switch.of(onednn)
        subjects = [_subject(spec, switch) for spec in specs]
        if forget:
            _forget(subjects, records)
            return
        found = _measured(subjects, switch, seconds, records)
        choices = tuner.decide(found, switch)
        if write is not None:
            _write(write, [tuner.filled(spec, choices.get(spec.name)) for spec in specs], choices, switch)
    if as_json:
        click.echo(json.dumps(_as_json(found, choices), indent=2))
        return
    console = Console()
    for name, record in found.items():
        _show(console, name, record, choices[name])
    if write is not None:
        console.print(f"written to {escape(str(write))}")


def _subject(spec: ModelSpec, switch: Switch) -> TunedModel:
    if spec.is_function:
        raise InvalidInput(f"{spec.source} is a Python callable; only SavedModels have settings to measure")
    if spec.warmup is False:
        raise InvalidInput(
            f"{spec.name} has warmup = false, so it is not run before the first call and cannot be measured"
        )
    with reading(spec):
        return TunedModel.of(spec, switch)


def _forget(subjects: Sequence[TunedModel], records: Records) -> None:
    for subject in subjects:
        count = records.forget(subject.keys[0].content)
        click.echo(f"{subject.spec.name}: {counted(count, 'record')} dropped")


def _measured(
    subjects: Sequence[TunedModel], switch: Switch, seconds: float, records: Records
) -> dict[str, TuningRecord]:
    """Raises BrokerError if one of them could not be measured."""
    with _progress() as on_progress:
        found = tuner.measure_all(subjects, switch, seconds, records, on_progress, again=True)
    for subject in subjects:
        record = found.get(subject.spec.name)
        if record is None or record.table is None:
            reason = f": {record.note}" if record is not None else "; the log above says why"
            raise BrokerError(f"{subject.spec.name} could not be measured{reason}")
    return found


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A progress line on the terminal; nothing if stderr is not a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}
        waiting = bar.add_task("starting TensorFlow", total=None)

        def report_progress(name: str, progress: race.RaceProgress) -> None:
            bar.update(waiting, visible=False)
            if name not in tasks:
                tasks[name] = bar.add_task(escape(name))
            text = f"{name}: {progress.done} of {progress.planned}, {progress.seconds_left:.0f} s left"
            bar.update(tasks[name], completed=progress.done, total=progress.planned, description=escape(text))

        yield report_progress


def _write(path: Path, specs: Sequence[ModelSpec], choices: Mapping[str, Choice], switch: Switch) -> None:
    from broker.tuning import config_file

    onednn = next(iter(choices.values())).setting.onednn if switch.ours else None
    try:
        config_file.write(path, specs, onednn)
    except OSError as error:
        raise BrokerError(f"{path} cannot be written: {error.strerror}") from None


# --- what was measured ---


def _as_json(found: Mapping[str, TuningRecord], choices: Mapping[str, Choice]) -> dict[str, Any]:
    return {
        name: {
            "chosen": {**asdict(choices[name].setting), "max_batch_size": choices[name].batch_size},
            "gain": choices[name].gain,
            "noise": record.table.noise,
            "busy": record.note,
            "what": record.what,
            "measured": [_row(record.table, choices[name], setting) for setting in record.table.settings],
        }
        for name, record in found.items()
        if record.table is not None
    }


def _row(table: SampleTable, choice: Choice, setting: RunSetting) -> dict[str, Any]:
    return {
        **asdict(setting),
        "p50_us": table.p50_us(setting),
        "rows_per_s": {str(rows): rate for rows, rate in table.rates(setting).items()},
        "default": setting == table.default,
        "chosen": setting == choice.setting,
    }


def _show(console: Console, name: str, record: TuningRecord, choice: Choice) -> None:
    table = record.table
    assert table is not None
    console.print(f"[bold]{escape(name)}[/]  {escape(record.what)}", highlight=False)
    console.print(_rich(table, choice))
    console.print(
        "rows per second by batch size; p50 of one request of the smallest size, without concurrent runs"
    )
    console.print(f"= TensorFlow's defaults   [bold]>[/] {escape(str(choice))}", highlight=False)
    if record.note:
        busy = f"{record.note} meanwhile: only clear gains count, and the broker will measure again"
        console.print(escape(busy), style="yellow", highlight=False)


def _rich(table: SampleTable, choice: Choice) -> RichTable:
    shown = RichTable(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in (" ", "threads", "runs", "on", "oneDNN", "p50", *map(str, table.sizes)):
        shown.add_column(title, justify="left" if title in (" ", "on") else "right", no_wrap=True)
    by_rate = sorted(table.settings, key=lambda s: (s != table.default, -table.best_rate(s)))
    for setting in by_rate:
        rates = table.rates(setting)
        shown.add_row(
            ">" if setting == choice.setting else "=" if setting == table.default else " ",
            str(setting.intra_op_threads),
            str(setting.side_by_side),
            "caller" if setting.caller_thread else "pool",
            "on" if setting.onednn else "off",
            _time(table.p50_us(setting) or 0.0),
            *(_rate(rates[rows]) if rows in rates else "-" for rows in table.sizes),
            style="bold" if setting == choice.setting else None,
        )
    return shown


def _time(us: float) -> str:
    return f"{us:.1f}us" if us < 100 else f"{us:.0f}us" if us < 10_000 else f"{us / 1000:.1f}ms"


def _rate(rate: float) -> str:
    if rate < 10_000:
        return f"{rate:.0f}"
    return f"{rate / 1e3:.0f}k" if rate < 1e6 else f"{rate / 1e6:.1f}M"
