"""How long this process did not get to run: suspended, or on a machine with more to do than processors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_TICK_S = 0.02
_SETTLE_S = 0.2


class Stall:
    """A thread that wakes fifty times a second; its delays show how long the process stood still."""

    def __init__(self, each_tick: Callable[[], None] = lambda: None) -> None:
        self.seconds = 0.0
        self._each_tick = each_tick
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="stall", daemon=True)

    def start(self) -> Stall:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._enough.set()
        self._thread.join()
        self._each_tick()

    def settled(self) -> float:
        """`seconds`, once a pause that has just ended is counted."""
        time.sleep(_SETTLE_S)
        return self.seconds

    def _tick(self) -> None:
        before = time.monotonic()
        while not self._enough.wait(_TICK_S):
            now = time.monotonic()
            self.seconds += max(0.0, now - before - _TICK_S)
            before = now
            self._each_tick()
