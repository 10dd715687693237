"""What has been done to a bout's processes so far, in memory that they share: words with one writer each."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator

MOST_PLACES = 64
_STOP, _FAILED, _BROKERS, _WORKERS, _CLEANED, _DONE = 0, 1, 2, 4, 6, 8


class Ends:
    """How often something was ended, counted so that who compares two looks at it misses none."""

    def __init__(self, words: memoryview | None = None) -> None:
        self._words = memoryview(bytearray(16)).cast("Q") if words is None else words  # begun, over

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """The block ends one, and is left when it is gone."""
        self._words[0] += 1
        yield
        self._words[1] += 1

    @property
    def over(self) -> int:
        """To be looked at before a call."""
        return int(self._words[1])

    def since(self, over: int) -> int:
        """How many there may have been since that look; to be asked after the call."""
        return int(self._words[0]) - over


class Board:
    """Made before the workers are forked. `done` has a word for each worker's place: its calls so far."""

    def __init__(self) -> None:
        self._words = memoryview(mmap.mmap(-1, 8 * (_DONE + MOST_PLACES))).cast("Q")
        self.broker_ends = Ends(self._words[_BROKERS:_WORKERS])
        self.worker_ends = Ends(self._words[_WORKERS:_CLEANED])
        self.cleanings = Ends(self._words[_CLEANED:_DONE])
        self.done = self._words[_DONE:]

    @property
    def stopped(self) -> bool:
        """The workers shall come to an end."""
        return bool(self._words[_STOP])

    def stop(self) -> None:
        self._words[_STOP] = 1

    @property
    def failed(self) -> bool:
        """A child that a worker has forked has failed, whoever hears of it."""
        return bool(self._words[_FAILED])

    def fail(self) -> None:
        self._words[_FAILED] = 1
