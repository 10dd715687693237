"""What the callers of a stage have done so far, in memory that all processes share: words with one writer each."""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator

from tests.differential.kinds import ALL, NUMBER_OF

PLACES = 16
THREADS = 4
_COUNTS = 8192
"""Numbers of the stateful kind that one caller can note; beyond that it makes no such call."""
_INDEX, _ASKED, _NOTED, _ENDS = 0, 1, 2, 4
_COUNT_WORDS = _ENDS + len(ALL)
_CALLER_WORDS = _COUNT_WORDS + 2 * _COUNTS


class Page:
    """One caller's words, whichever process has the place now."""

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self._counts = words[_COUNT_WORDS:]

    @property
    def index(self) -> int:
        """Of the operation that is under way."""
        return int(self._words[_INDEX])

    def begin(self, index: int) -> None:
        self._words[_INDEX] = index

    def answered(self, kind: str, count: int = 1) -> None:
        """So many answers of this kind were compared, and right."""
        self._words[_ENDS + NUMBER_OF[kind]] += count

    @property
    def answers(self) -> Counter[str]:
        return Counter({kind.name: int(self._words[_ENDS + n]) for n, kind in enumerate(ALL)})

    @property
    def total(self) -> int:
        return sum(self._words[_ENDS : _ENDS + len(ALL)])

    # -- what the counter gave ---------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        return self._words[_NOTED] + 64 > _COUNTS

    @property
    def asked(self) -> int:
        """How often the counter was called, answered or not."""
        return int(self._words[_ASKED])

    def ask(self) -> None:
        self._words[_ASKED] += 1

    def note(self, broker: int, count: int) -> None:
        number = self._words[_NOTED]
        self._counts[2 * number], self._counts[2 * number + 1] = broker, count
        self._words[_NOTED] = number + 1

    @property
    def counts(self) -> list[tuple[int, int]]:
        """(broker, number) of each answer."""
        words = self._counts[: 2 * self._words[_NOTED]].tolist()
        return list(zip(words[::2], words[1::2]))


class Ledger:
    """Made before the workers are forked."""

    def __init__(self) -> None:
        words = memoryview(mmap.mmap(-1, 8 * PLACES * THREADS * _CALLER_WORDS)).cast("Q")
        self._pages = [
            Page(words[start : start + _CALLER_WORDS])
            for start in range(0, PLACES * THREADS * _CALLER_WORDS, _CALLER_WORDS)
        ]

    def page(self, place: int, thread: int) -> Page:
        return self._pages[place * THREADS + thread]

    def of_place(self, place: int) -> Iterator[Page]:
        yield from self._pages[place * THREADS : (place + 1) * THREADS]

    @property
    def total(self) -> int:
        return sum(page.total for page in self._pages)

    @property
    def answers(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for page in self._pages:
            found += page.answers
        return found

    def wrong_counts(self, broker_died: bool) -> str | None:
        """The errors in the numbers that the counter returned: each must come once, and only numbers of calls whose
        answer no caller received may be missing."""
        noted = Counter(count for page in self._pages for count in page.counts)
        twice = [count for count, times in noted.items() if times > 1]
        if twice:
            return f"the counter of broker {twice[0][0]} gave {twice[0][1]} to {noted[twice[0]]} calls"
        if broker_died:  # and took with it what it had counted for calls that ran again elsewhere
            return None
        unheard = sum(page.asked - len(page.counts) for page in self._pages)
        skipped = max((count for _, count in noted), default=0) - len(noted)
        if skipped > unheard:
            return (
                f"the counter skipped {skipped} numbers, though only {unheard} calls did not hear of theirs"
            )
        return None
