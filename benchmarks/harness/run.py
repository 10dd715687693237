"""A run: one target after the other, each printed when it is done, and the document that is written at the end."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich import progress as bars
from rich.console import Console

from benchmarks import machine, report
from benchmarks.figures import TargetResult
from benchmarks.harness.arm import ArmFailed
from benchmarks.harness.host.cpu import NotQuiet
from benchmarks.harness.rounds import Progress

MakeBench = Callable[[Path, Progress], Any]


@dataclass(frozen=True)
class MeasuredTarget:
    """One line of TARGETS.md. `measure` gets the command's own Workbench."""

    name: str
    title: str
    measure: Callable[[Any], TargetResult]


def named(targets: Iterable[MeasuredTarget]) -> dict[str, MeasuredTarget]:
    return {target.name: target for target in targets}


def run(
    command: str,
    targets: Sequence[MeasuredTarget],
    make_bench: MakeBench,
    options: dict[str, Any],
    path: Path | None,
) -> None:
    """Measure, print, write. If an arm fails the run ends there, with status 1: its target has no figures."""
    console = report.console()
    document: dict[str, Any] = {
        "command": command,
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "options": options,
    }
    report.print_machine(console, document)
    done = document["targets"] = {}
    failed = False
    try:
        for result in _measured(targets, make_bench, console):
            report.print_result(console, result)
            done[result.target] = report.to_json(result)
            path = report.write(document, path)  # at once: a kill, too, leaves what was measured so far
    except (ArmFailed, NotQuiet) as error:
        console.print(f"{error}", style="red", markup=False, highlight=False)
        failed = True
    if done:
        console.print(f"written to {path}")
    if failed:
        sys.exit(1)


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set variables for arms and brokers while the block runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _measured(
    targets: Sequence[MeasuredTarget], make_bench: MakeBench, console: Console
) -> Iterator[TargetResult]:
    """The results, one after the other, with a progress line below what is printed meanwhile."""
    columns = (
        bars.SpinnerColumn(),
        bars.TextColumn("{task.description}"),
        bars.BarColumn(30),
        bars.TimeElapsedColumn(),
    )
    with (
        tempfile.TemporaryDirectory(prefix="onesession-bench-") as directory,
        environment(CUDA_VISIBLE_DEVICES="-1", XDG_CACHE_HOME=directory),
        bars.Progress(*columns, console=console, transient=True) as progress,
    ):
        task = progress.add_task("")
        name = ""

        def show(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total, description=f"{name}: {what}")

        bench = make_bench(Path(directory), show)
        for number, target in enumerate(targets):
            name = f"({number + 1} of {len(targets)}) {target.name}"
            others = machine.OtherLoad()
            result = target.measure(bench)
            result.other_load = others.share()
            yield result
