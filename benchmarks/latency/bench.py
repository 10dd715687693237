"""What every target of `latency` gets: the workbench, and how long to measure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.harness.rounds import RoundPlan
from benchmarks.harness.workbench import MODES, Workbench


@dataclass
class LatencyBench(Workbench):
    """`idle_seconds` is the silence in which an idle broker is watched."""

    plan: RoundPlan
    idle_seconds: float

    @contextmanager
    def brokers(self, name: str, models: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """A broker for each way of waiting; gives their addresses by mode."""
        with ExitStack() as stack:
            yield {
                mode: stack.enter_context(self.broker(f"{name}-{mode}", models, wait=mode)).address
                for mode in MODES
            }
