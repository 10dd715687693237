"""The demo's broker, as its user sees it: the command that runs it, and what its commands print."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.demo.program import DemoError, Message
from benchmarks.machine import ROOT
from worker_client.wire.address import name_prefix, socket_path

_STATUS_SECONDS = 30


class BrokerCommand:
    """`onesession run --model digits=MODEL --name NAME`."""

    def __init__(self, name: str, model: Path) -> None:
        self.name = name
        self.run_command = [
            *(sys.executable, "-m", "broker", "run"),
            *("--model", f"digits={model}", "--name", name, "--"),
        ]

    def status(self) -> Message:
        """The output of `onesession status --json`. Raises DemoError."""
        return self._ask("status")

    def models(self) -> Message:
        """The output of `onesession models --json`. Raises DemoError."""
        return self._ask("models")

    def _ask(self, what: str) -> Message:
        command = [sys.executable, "-m", "broker", what, "--name", self.name, "--json"]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=_STATUS_SECONDS, check=False
        )
        if done.returncode:
            raise DemoError(f"`broker {what}` failed: {done.stderr.strip()}")
        found: Message = json.loads(done.stdout)
        return found


def traces(name: str) -> tuple[list[Path], str]:
    """What a broker of this name can leave behind: its files, and the prefix of its names in /dev/shm."""
    path = socket_path(name)
    return [path, path.with_name(f"{path.name}.lock")], name_prefix(path).lstrip("/")
