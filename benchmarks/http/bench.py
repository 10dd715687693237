"""What the targets that start gunicorn get: the workbench, the arms, their size, and how often to start them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.harness.arm import Arm
from benchmarks.harness.workbench import Workbench
from benchmarks.http import starts
from benchmarks.http.contenders import KINDS, Setup, arm, missing
from benchmarks.http.starts import Starts


@dataclass
class HttpBench(Workbench):
    """`rounds` is how often each arm is started. `quick` is for tests: brokers do not measure their settings."""

    workers: int
    connections: int
    rounds: int
    seed: int
    quick: bool
    _started: dict[tuple[str, ...], dict[str, Starts]] = field(default_factory=dict, init=False)

    def arms(self, kinds: Iterable[str]) -> list[Arm]:
        """The arms that can run here."""
        setup = Setup(
            self.workers, self.connections, str(self.directory), self.mlp, "off" if self.quick else "auto"
        )
        return [arm(kind, setup) for kind in kinds if missing(kind) is None]

    def started(self, kinds: Sequence[str]) -> dict[str, Starts]:
        """Each arm's starts, by its kind. The broker finds its settings before: once for a model and a machine."""
        key = tuple(kinds)
        if key not in self._started:
            self._started[key] = self._start(self.arms(kinds))
        return self._started[key]

    def _start(self, arms: Sequence[Arm]) -> dict[str, Starts]:
        if not self.quick:
            with self.broker("tune", {"mlp": self.mlp}):
                self.progress(0, 1, "tuned")
        return starts.measure(arms, self.rounds, self.seed, self.progress)

    def skipped(self, kinds: Iterable[str]) -> dict[str, str]:
        """Arms that cannot run here, and why."""
        return {KINDS[kind].label: why for kind in kinds if (why := missing(kind)) is not None}
