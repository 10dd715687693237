"""`python -m benchmarks survival`, T12 and T13 by the programs that test them, each in a process of its own.

A program ends with 0 only if everything held.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.figures import Figure, TargetResult
from benchmarks.harness import run
from benchmarks.harness.options import common, count, only
from benchmarks.harness.run import MeasuredTarget
from benchmarks.harness.workbench import Workbench
from benchmarks.machine import ROOT
from benchmarks.report import RESULTS
from benchmarks.sampling import Spread

QUICK = {"kills": 10, "headers": 2000}
LAST_LINES = 20


@dataclass
class SurvivalBench(Workbench):
    """The number of kills and of headers, and their seed."""

    kills: int
    headers: int
    seed: int


def _survive(bench: SurvivalBench, what: str, count: int, arguments: list[str]) -> tuple[int, str]:
    """How many were survived: all, or none if any check failed; and the end of the program's output. A file beside the
    results keeps all of it."""
    command = [sys.executable, "-m", *arguments, "--seed", str(bench.seed)]
    said: list[str] = []
    RESULTS.mkdir(exist_ok=True)
    log = RESULTS / f"{what}.log"
    with (
        log.open("w") as kept,
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as program,
    ):
        assert program.stdout is not None
        for line in program.stdout:
            kept.write(line)
            said = [*said[-LAST_LINES:], line.rstrip()]
            bench.progress(0, 1, said[-1][:100])
    if program.returncode == 0:
        return count, said[-1].partition("] ")[2] or said[-1]
    return 0, "\n".join(
        [f"{what} ended with status {program.returncode}; all of it is in {log.relative_to(ROOT)}:", *said]
    )


def _kills(bench: SurvivalBench) -> TargetResult:
    arguments = ["tests.stress", "--kills", str(bench.kills)]
    survived, said = _survive(bench, "tests.stress", bench.kills, arguments)
    label = "kills; every answer right, no hang, nothing left behind"
    return _result(T12, label, survived, 1000, 10_000, said)


def _headers(bench: SurvivalBench) -> TargetResult:
    arguments = ["tests.faults.fuzz", "--headers", str(bench.headers)]
    survived, said = _survive(bench, "tests.faults.fuzz", bench.headers, arguments)
    label = "headers; other workers untouched, their answers right"
    return _result(T13, label, survived, 1_000_000, 100_000_000, said)


def _result(
    target: MeasuredTarget, label: str, survived: int, least: int, stretch: int, said: str
) -> TargetResult:
    figure = Figure(label, Spread.exact(survived), "", least, stretch, at_least=True)
    return TargetResult(target.name, target.title, "us", {}, [figure], [said])


T12 = MeasuredTarget("T12", "random SIGKILLs of workers and broker under load", _kills)
T13 = MeasuredTarget("T13", "hostile headers written into a live channel", _headers)


TARGETS = run.named((T12, T13))


@click.command()
@only(TARGETS, "target")
@count("--kills", 1000, "Number of kills in T12.")
@count("--headers", 1_000_000, "Number of hostile headers in T13.")
@common("survival")
def survival(
    only: tuple[str, ...], kills: int, headers: int, seed: int, quick: bool, path: Path | None
) -> None:
    """T12 and T13 of TARGETS.md: random kills under load, and hostile headers.

    Runs `python -m tests.stress` and `python -m tests.faults.fuzz`, which check every answer. Takes about half an hour
    on two cores.
    """
    counts = QUICK if quick else {"kills": kills, "headers": headers}
    run.run(
        "survival",
        [TARGETS[name] for name in TARGETS if not only or name in only],
        lambda directory, progress: SurvivalBench(directory, progress, **counts, seed=seed),
        {**counts, "seed": seed, "quick": quick},
        path,
    )
