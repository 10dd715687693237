"""Limits the log to one line of each kind per interval, and counts the lines left out. Reads no clock."""

from __future__ import annotations

from collections.abc import Hashable

_MAX_KINDS = 1024


class RateLimit:
    """The rate limit of a log. Not thread-safe."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._kinds: dict[Hashable, tuple[float, int]] = {}  # time of the last line, lines left out since

    def left_out(self, kind: Hashable, now_s: float) -> int | None:
        """None if the line must be left out; otherwise the number of lines of this kind left out before it."""
        last, count = self._kinds.get(kind, (None, 0))
        if last is not None and now_s - last < self._interval_s:
            self._kinds[kind] = last, count + 1
            return None
        if len(self._kinds) >= _MAX_KINDS:
            self._kinds.clear()
        self._kinds[kind] = now_s, 0
        return count
