"""A process that the demo starts: in a session of its own, with its log in a file, and ended in order.

In a session of its own, since Ctrl-C must reach only the demo, which then stops everything in the right order.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.server_process import ServerProcess

_LOG_LINES = 15

Message = dict[str, Any]


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class Program(ServerProcess):
    """A running process. Its stdout is one JSON object a line (`messages`) if it `talks`, else it goes to the log."""

    stop_seconds = 30.0
    ends_tree = False  # what is left behind is for `machine.Workspace` to find

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        directory: Path,
        environment: dict[str, str] | None = None,
        talks: bool = False,
    ) -> None:
        pipe = {"stdout": subprocess.PIPE} if talks else {}
        # All on the CPU: on a GPU the first session of four would take the whole device.
        environment = {"CUDA_VISIBLE_DEVICES": "-1", **(environment or {})}
        log = directory / f"{name}.log"
        super().__init__(name, arguments, environment, log, start_new_session=True, **pipe)

    def failed(self, why: str) -> DemoError:
        return DemoError(f"{why}:\n{self.log_tail()}")

    def log_tail(self) -> str:
        return "\n".join(self.last_lines(_LOG_LINES)) or "(no output)"

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        super().stop(number)
        if self.process.stdout is not None:
            self.process.stdout.close()


def messages(programs: Sequence[Program], seconds: float) -> Iterator[tuple[Program, Message]]:
    """The programs' messages, as they come, until each has ended. Raises DemoError if one fails or is silent."""
    with selectors.DefaultSelector() as selector:
        for program in programs:
            selector.register(_stdout(program), selectors.EVENT_READ, (program, bytearray()))
        while selector.get_map():
            ready = selector.select(seconds)
            if not ready:
                raise DemoError(f"{programs[0].name} has said nothing for {seconds:g} s")
            for key, _ in ready:
                program, buffer = key.data
                data = os.read(key.fd, 65536)
                buffer += data
                for message in _whole_lines(buffer):
                    yield program, message
                if not data:
                    selector.unregister(key.fileobj)
                    _check_end(program)


def _stdout(program: Program) -> Any:
    assert program.process.stdout is not None
    return program.process.stdout


def _whole_lines(buffer: bytearray) -> list[Message]:
    *lines, rest = bytes(buffer).split(b"\n")
    buffer[:] = rest
    return [json.loads(line) for line in lines]


def _check_end(program: Program) -> None:
    if program.process.wait(program.stop_seconds):
        program.check()
