"""What every target of the run is given: where to put things, how long to measure, whom to tell about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.figures import Result
from benchmarks.harness.rounds import Plan, Progress
from broker import Broker
from tests import saved_models

MODES = {"adaptive": "adaptive, the default", "poll": "polling, both sides", "block": "blocking, both sides"}
"""How broker and worker wait for each other, and what the tables call it."""


@dataclass
class Bench:
    """`directory` is removed after the run; brokers have their sockets there, out of everybody's way."""

    directory: Path
    plan: Plan
    idle_seconds: float
    progress: Progress

    @cached_property
    def mlp(self) -> str:
        """The SavedModel, exported by another process: this one never imports TensorFlow."""
        self.progress(0, 1, "exporting the model")
        path = str(self.directory / "mlp")
        saved_models.export({"mlp": path})
        return path

    def broker(self, name: str, models: Mapping[str, str], wait: str = "adaptive") -> Broker:
        self.progress(0, 1, "starting brokers")
        return Broker(models=models, name=str(self.directory / f"{name}.sock"), wait=wait)

    @contextmanager
    def brokers(self, name: str, models: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """A broker for each way of waiting; gives their addresses by mode."""
        with ExitStack() as stack:
            yield {
                mode: stack.enter_context(self.broker(f"{name}-{mode}", models, mode)).address
                for mode in MODES
            }


@dataclass(frozen=True)
class Target:
    """One line of TARGETS.md."""

    name: str
    title: str
    measure: Callable[[Bench], Result]
