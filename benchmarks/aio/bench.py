"""What the target is given: beside place and progress, how many tasks and workers, and how long to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.arms.session import ONE_THREAD
from benchmarks.harness.bout import Pace
from benchmarks.harness.workbench import Workbench


@dataclass
class Bench(Workbench):
    tasks: int
    workers: int
    loops: tuple[str, ...]
    pace: Pace

    @property
    def models(self) -> dict[str, Any]:
        """With one intra-op thread, which is best for a light model: all arms alike, and nothing to be tuned."""
        return {"mlp": {"source": self.mlp, "intra_op_threads": ONE_THREAD}}
