"""The calls that a thread makes, in their order, as `sys.setprofile` reports them. Exact, whatever else runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.machine import ROOT


@dataclass
class Called:
    """One call. `times` counts repetitions in a row of a C function: the looks of a polling loop."""

    depth: int
    name: str
    where: str
    python: bool
    times: int = 1


class Recorder:
    """`start` and `stop` on the thread that is to be recorded. `calls` is cleared by whoever wants a fresh list."""

    def __init__(self) -> None:
        self.calls: list[Called] = []
        self.on_python_call: Callable[[Called], None] = _ignore
        self._depth = 0

    def start(self) -> None:
        self._depth = 0
        sys.setprofile(self._hook)

    def stop(self) -> None:
        sys.setprofile(None)
        self.calls.pop()  # this call

    def _hook(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            code = frame.f_code
            name = getattr(code, "co_qualname", code.co_name)  # Python 3.11 and later
            call = Called(self._depth, name, f"{_short(code.co_filename)}:{code.co_firstlineno}", True)
            self.on_python_call(call)
            self._add(call)
            self._depth += 1
        elif event == "return":
            self._depth -= 1
        elif event == "c_call" and argument is not sys.setprofile:
            owner = getattr(argument, "__self__", None)
            kind = type(owner).__name__ if owner is not None and type(owner).__name__ != "module" else ""
            self._add(Called(self._depth, f"{kind}.{argument.__name__}".lstrip("."), "", False))

    def _add(self, call: Called) -> None:
        last = self.calls[-1] if self.calls else None
        if last is not None and not call.python and (last.name, last.depth) == (call.name, call.depth):
            last.times += 1
        else:
            self.calls.append(call)


def _ignore(_call: Called) -> None:
    pass


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
