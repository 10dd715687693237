"""A process that the demo starts: in a session of its own, with its log in a file, and ended in order.

In a session of its own, since Ctrl-C shall reach only the demo, which then stops everything in the right order.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 30.0

Message = dict[str, Any]


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class Program:
    """A running process. Its stdout is one JSON object a line (`messages`) if it `talks`, else it goes to the log."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        directory: Path,
        environment: dict[str, str] | None = None,
        talks: bool = False,
    ) -> None:
        self.name = name
        self.stopped_in_order = True
        self._log = directory / f"{name}.log"
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                list(arguments),
                cwd=ROOT,
                # All on the CPU: on a GPU the first session of four would take the whole device.
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **(environment or {})},
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def check(self) -> None:
        """Raises DemoError, with the end of the log, if the process has ended."""
        status = self.process.poll()
        if status is not None:
            raise DemoError(f"{self.name} ended with status {status}:\n{self.log_tail()}")

    def log_tail(self, lines: int = 15) -> str:
        text = self._log.read_text("utf-8", "replace").splitlines()
        return "\n".join(text[-lines:]) or "(it said nothing)"

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: `messages` reports that
            self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal, and SIGKILL to the whole group only if that does not help. Idempotent."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.stopped_in_order = False
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def messages(programs: Sequence[Program], seconds: float) -> Iterator[tuple[Program, Message]]:
    """What the programs say, as it comes, until each has ended. Raises DemoError if one fails or takes longer."""
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
    if program.process.wait(STOP_SECONDS):
        program.check()
