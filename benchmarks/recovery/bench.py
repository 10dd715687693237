"""What T11 is given: beside place and progress, how many brokers to kill, among how many callers."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.harness.workbench import Workbench


@dataclass
class Bench(Workbench):
    """`callers` of each sort call in a closed loop while a broker is killed; each of the `kills` has its own broker."""

    kills: int
    callers: int
    seed: int
