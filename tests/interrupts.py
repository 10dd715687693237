"""Raises in a thread where a signal handler may, at one chosen place of a piece of code, and so at every one in turn.

CPython runs signal handlers at fixed places: where a Python function begins, after the call of a function in C, and
where a loop begins again. A trace function sees them all; to raise there is what a handler that raises does.
"""

from __future__ import annotations

import dis
import itertools
import sys
from collections.abc import Callable
from functools import cache
from types import CodeType, FrameType
from typing import Any

_CALLS = {
    dis.opmap[name]
    for name in ("CALL", "CALL_FUNCTION_EX", "CALL_FUNCTION", "CALL_METHOD")
    if name in dis.opmap
}
_JUMPS = {dis.opmap[name] for name in ("JUMP_BACKWARD", "JUMP_ABSOLUTE") if name in dis.opmap}


class Interrupted(Exception):
    """What the handler raises."""


class Interrupter:
    """Raises at the `place`-th place where a handler may run, counted from 1."""

    def __init__(self, place: int) -> None:
        self._left = place
        self._last: dict[FrameType, int] = {}  # the offset of the instruction that each frame ran last
        self.where = ""
        """Where it was raised; empty if the code has fewer places."""

    def run(self, code: Callable[[], object]) -> None:
        """Run the code; what it raises is let through, unless that is the handler's."""
        before, enter = sys.gettrace(), self._enter
        # Kept by name: CPython 3.11 calls a freed trace function if the garbage collector runs something traced between
        # its look at the function and its call, and this function raises there and so is unset.
        sys.settrace(enter)
        try:
            code()
        except Interrupted:
            assert self.where
        finally:
            sys.settrace(before)
            self._last.clear()

    def _enter(self, frame: FrameType, _event: str, _: Any) -> Callable[[FrameType, str, Any], Any] | None:
        if frame.f_code is Interrupter.run.__code__ or frame.f_globals.get("__name__") == __name__:
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        self._visit(frame, "begins")
        return self._step

    def _step(self, frame: FrameType, event: str, _: Any) -> Callable[[FrameType, str, Any], Any]:
        if event == "opcode":
            before, self._last[frame] = self._last.get(frame), frame.f_lasti
            if before is not None and frame.f_lasti in _places_after(frame.f_code).get(before, ()):
                self._visit(frame, f"in line {frame.f_lineno}")
        elif event == "return":
            self._last.pop(frame, None)
            if (caller := frame.f_back) is not None and frame.f_code.co_name != "__init__":
                self._last.pop(caller, None)  # the return of a Python function is no such place
        return self._step

    def _visit(self, frame: FrameType, where: str) -> None:
        self._left -= 1
        if self._left == 0:
            self.where = f"{frame.f_code.co_filename}: {frame.f_code.co_name} {where}"
            raise Interrupted(self.where)


@cache
def _places_after(code: CodeType) -> dict[int, tuple[int, ...]]:
    """After which instructions a handler may run, and where the code goes on then."""
    instructions = list(dis.get_instructions(code))
    places: dict[int, tuple[int, ...]] = {}
    for instruction, following in itertools.pairwise(instructions):
        if instruction.opcode in _CALLS:
            places[instruction.offset] = (following.offset,)
        elif instruction.opcode in _JUMPS:
            places[instruction.offset] = (int(instruction.argval),)
    return places
