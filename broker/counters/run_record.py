"""Records what each thread of a broker runs, in memory that outlives the process: the broker writes it, its parent
reads it.

    +--------+-----------------------------+------------------------------+--------+
    | header | lines: one for each thread  | names: one for each model    | LOADED |
    +--------+-----------------------------+------------------------------+--------+
    0        64                            _NAMES_START                   _LOADED_START

    header: BEAT_NS  | since when intake, control thread do not answer the watch | since when LOADED is loading, or 0
    line:   STARTED_NS (0: nothing runs) | LIMIT_NS (0: none) | MODEL, the number of a name

All words are native unsigned 64-bit, written by one thread each and read without a lock: a reader may see a line one
run behind. The parent creates the memory and passes its descriptor to the process that it starts; it can read the
record without the help of that process, and after its end. Times are CLOCK_MONOTONIC nanoseconds.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from worker_client.ipc.segment import Segment
from worker_client.system.descriptor import Descriptor
from worker_client.wire.layout import LINE, LINE_WORDS

LINES: Final = 256
"""The number of threads that the parent can watch; further threads are watched by their own process only."""
MODELS: Final = 1024
NAME_BYTES: Final = 2 * LINE

INTAKE_LINE: Final = 0
"""The line of the intake thread, which asks first."""

STARTED_NS: Final = 0
LIMIT_NS: Final = 1
MODEL: Final = 2

_BEAT_NS: Final = 0
_SINCE_NS: Final = {"intake": 1, "control": 2}
_NAMES_START: Final = (1 + LINES) * LINE
_LOADING_NS: Final = 3
_LOADED_START: Final = _NAMES_START + MODELS * NAME_BYTES
_SIZE: Final = _LOADED_START + NAME_BYTES


@dataclass(frozen=True, slots=True)
class RunUnderWay:
    """A run that was under way when the record was read. `limit_s` is its model's max_run_seconds, 0 for none."""

    line: int
    model: str
    seconds: float
    limit_s: float

    @property
    def overdue_s(self) -> float:
        """Seconds past its limit; negative before it."""
        return self.seconds - self.limit_s if self.limit_s else -1.0


class RunLine:
    """What one thread runs now. That thread writes it, any thread or process may read it."""

    __slots__ = ("_record", "answered", "given_up", "lock", "of", "words")

    def __init__(self, record: RunRecord, words: memoryview) -> None:
        self.words = words
        self.of: object = None  # the runner whose model the line names now
        self.given_up = 0  # start of the run that another thread answers, or is about to answer
        self.answered = False
        self.lock = threading.Lock()
        self._record = record

    def describe(self, of: object, model: str, limit_ns: int) -> None:
        """Name the model of the runs that follow."""
        self.words[LIMIT_NS] = limit_ns
        self.words[MODEL] = self._record.number_of(model)
        self.of = of

    def was_answered(self) -> bool:
        """Whether another thread answered the request of the run that has just ended, because it took too long."""
        with self.lock:
            answered, self.answered, self.given_up = self.answered, False, 0
            return answered


class RunRecord:
    """The record: `create` in the parent, `attach` in the watched process; `RunRecord()` without a parent that
    watches."""

    def __init__(self, segment: Segment | None = None) -> None:
        self._segment = segment
        self._bytes = memoryview(bytearray(_SIZE)) if segment is None else segment.bytes
        self._words = self._bytes.cast("Q")
        self._lock = threading.Lock()
        self._lines = 0
        self._numbers: dict[str, int] = {}

    @classmethod
    def create(cls) -> RunRecord:
        """Create the memory. Raises Overloaded or OSError."""
        return cls(Segment.create("onesession-runs", _SIZE))

    @classmethod
    def attach(cls, fd: int) -> RunRecord:
        """Map the memory of the descriptor, which belongs to the record from now on. Raises OSError."""
        return cls(Segment.attach(Descriptor(fd), _SIZE))

    @property
    def fd(self) -> int:
        """The descriptor that a child inherits; -1 if there is none."""
        return -1 if self._segment is None else self._segment.fd

    def close_fd(self) -> None:
        """Close the descriptor once the process has inherited it; the memory lives until the last reference is gone."""
        if self._segment is not None:
            self._segment.close_fd()

    # -- written by the process that is watched ------------------------------------------------------------------

    def new_line(self) -> RunLine:
        """A line for the calling thread."""
        with self._lock:
            number, self._lines = self._lines, self._lines + 1
        if number >= LINES:
            return RunLine(self, memoryview(bytearray(LINE)).cast("Q"))
        start = (1 + number) * LINE_WORDS
        return RunLine(self, self._words[start : start + LINE_WORDS])

    def number_of(self, model: str) -> int:
        """The number by which lines refer to the model; the first call for a model writes its name."""
        with self._lock:
            number = self._numbers.setdefault(model, len(self._numbers))
        if number < MODELS:
            text = model.encode("utf-8", "replace")[:NAME_BYTES]
            start = _NAMES_START + number * NAME_BYTES
            self._bytes[start : start + len(text)] = text
        return number

    def beat(self, now_ns: int) -> None:
        """Note that the interpreter runs our threads."""
        self._words[_BEAT_NS] = now_ns

    def no_answer(self, thread: str, since_ns: int) -> None:
        """Note that this thread has not answered the watch since then; 0: it has answered."""
        self._words[_SINCE_NS[thread]] = since_ns

    def load_begins(self, model: str, now_ns: int) -> None:
        """Note that this model is being loaded or warmed up; "" for none. There is one at a time: the last call
        counts."""
        self._words[_LOADING_NS] = 0
        text = model.encode("utf-8", "replace")[:NAME_BYTES]
        self._bytes[_LOADED_START:_SIZE] = text.ljust(NAME_BYTES, b"\0")
        self._words[_LOADING_NS] = now_ns if model else 0

    # -- read by its parent --------------------------------------------------------------------------------------

    def under_way(self, now_ns: int) -> list[RunUnderWay]:
        """The runs under way, or under way when the process ended."""
        found = []
        for line in range(LINES):
            start = (1 + line) * LINE_WORDS
            started, limit, model, *_ = self._words[start : start + LINE_WORDS]
            if started:
                seconds = max(0, now_ns - started) / 1e9
                found.append(RunUnderWay(line, self._name(model), seconds, limit / 1e9))
        return found

    def loading(self, now_ns: int) -> tuple[str, float]:
        """The model that is being loaded, or was when the process ended, and for how many seconds; "" for none."""
        since = self._words[_LOADING_NS]
        return (self._text(_LOADED_START), max(0, now_ns - since) / 1e9) if since else ("", 0.0)

    def knows(self, model: str) -> bool:
        """Whether the process has served this model."""
        names = (self._name(number) for number in range(MODELS))
        return model in iter(lambda: next(names, ""), "")

    def seconds_since_beat(self, now_ns: int) -> float:
        """Seconds since the last beat; 0 before the first."""
        beat = self._words[_BEAT_NS]
        return max(0, now_ns - beat) / 1e9 if beat else 0.0

    def seconds_without_answer(self, now_ns: int) -> dict[str, float]:
        """For each thread that does not answer the watch, the seconds since it was asked."""
        signature_key = {thread: self._words[word] for thread, word in _SINCE_NS.items()}
        return {thread: max(0, now_ns - since) / 1e9 for thread, since in signature_key.items() if since}

    def _name(self, number: int) -> str:
        if not 0 <= number < MODELS:
            return "?"
        return self._text(_NAMES_START + number * NAME_BYTES)

    def _text(self, start: int) -> str:
        raw = self._bytes[start : start + NAME_BYTES].tobytes()
        return raw.rstrip(b"\0").decode("utf-8", "replace")
