"""One arm of a comparison, and the process that it runs in."""

from __future__ import annotations

import json
import sys
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT
from broker.bench.load.linked_process import LinkedProcess

START_TIMEOUT_S = 120.0
WINDOW_TIMEOUT_S = 120.0


class ArmFailed(Exception):
    """An arm could not be run, or answered wrongly. The run ends then, without figures."""


@dataclass(frozen=True)
class Arm:
    """`factory` is "package.module:name" of a `timed.Factory`, or of a `timed.WorkersFactory` for several workers.

    `calls` is this arm's share of a window's calls; `facts` are what a table says of it beside its label; `python` is
    the interpreter that it runs with.
    """

    name: str
    label: str
    factory: str
    workload: str
    options: dict[str, Any] = field(default_factory=dict)
    calls: float = 1.0
    facts: dict[str, Any] = field(default_factory=dict)
    python: str = sys.executable


class ArmProcess(LinkedProcess):
    """An arm, running. Its windows are run one at a time."""

    module = "benchmarks.harness.one_worker"
    """The module that the arm's process runs."""

    def __init__(self, arm: Arm, seed: int, group: Path | None = None) -> None:
        """`group` is the folder of a control group that the arm is put into."""
        self.arm = arm
        spec = {"factory": arm.factory, "workload": arm.workload, "options": arm.options, "seed": seed}
        super().__init__(
            lambda number: [arm.python, "-m", self.module, number, json.dumps(spec)],
            {"TF_CPP_MIN_LOG_LEVEL": "3"},
            ROOT,
        )
        if group is not None:  # before it has had time to start others
            (group / "cgroup.procs").write_text(str(self.pid))

    def await_ready(self) -> dict[str, Any]:
        """Return when the arm has answered each input once; what it says about itself. Raises ArmFailed."""
        return self._checked(self.receive(START_TIMEOUT_S))

    def window(self, calls: int, warm_up: int) -> tuple[array[int], int]:
        """Nanoseconds of each call, and how many answers were checked. Raises ArmFailed."""
        message = self._run(calls, warm_up)
        return message["taken_ns"], message["checked"]

    def failed(self, why: str) -> ArmFailed:
        return ArmFailed("\n".join([f"the arm {self.arm.name!r} failed: {why}", *self.last_lines()]))

    def _run(self, *how_long: float) -> dict[str, Any]:
        """A window, as the arm's process reports it."""
        return self._checked(self.ask({"run": how_long}, WINDOW_TIMEOUT_S))

    def _checked(self, message: dict[str, Any]) -> dict[str, Any]:
        if "error" in message:
            raise self.failed(message["error"].strip().splitlines()[-1])
        return message
