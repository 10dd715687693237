"""What every target of a run gets: a directory for its files, a function that shows progress. Commands add to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.harness.rounds import Progress
from benchmarks.models import exporting
from broker import Broker

MODES = {"adaptive": "adaptive, the default", "poll": "polling, both sides", "block": "blocking, both sides"}
"""How broker and worker wait for each other, and the label of that in the tables."""


@dataclass
class Workbench:
    """`directory` is removed after the run; brokers have their sockets there."""

    directory: Path
    progress: Progress

    @cached_property
    def mlp(self) -> str:
        """The SavedModel, exported by another process: this one never imports TensorFlow."""
        self.progress(0, 1, "exporting the model")
        path = str(self.directory / "mlp")
        exporting.export({"mlp": path})
        return path

    def broker(self, name: str, models: Mapping[str, Any], **options: Any) -> Broker:
        self.progress(0, 1, "starting brokers, which measure their models")
        return Broker(models=models, name=str(self.directory / f"{name}.sock"), **options)
