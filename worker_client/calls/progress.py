"""Progress of many calls: a bar of tqdm, or of rich, if it is installed; else a line on a terminal; else nothing.

Neither is a dependency, and neither is imported before somebody asks for a bar.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sized
from typing import Any, Protocol, TypeVar

from worker_client.system.clock import monotonic
from worker_client.wire.errors import InvalidInput

T = TypeVar("T")

_UNIT = "batch"
_LINE_SECONDS = 0.1
_VERBOSE = (0, 1, 2, "auto")


class Bar(Protocol):
    """What counts answers on a screen."""

    def update(self, n: int = 1) -> object: ...

    def close(self) -> object: ...


class NoBar:
    def update(self, n: int = 1) -> None: ...

    def close(self) -> None: ...


class LineBar:
    """One line of a terminal, written again as it changes, and ended with the bar."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._began_s = monotonic()
        self._written_s = 0.0
        self._write()

    def update(self, n: int = 1) -> None:
        self._done += n
        if monotonic() - self._written_s >= _LINE_SECONDS or self._done == self._total:
            self._write()

    def close(self) -> None:
        self._write("\n")

    def _write(self, end: str = "") -> None:
        self._written_s = monotonic()
        _say(f"\r{self}{end}")

    def __str__(self) -> str:
        of = "" if self._total is None else f"/{self._total}"
        return f"{self._what}: {self._done}{of} {_UNIT}es, {monotonic() - self._began_s:.1f} s"


class SummaryBar(LineBar):
    """One line when all is done, as Keras' verbose=2, on a terminal or not."""

    def update(self, n: int = 1) -> None:
        self._done += n

    def _write(self, end: str = "") -> None:
        if end:
            _say(f"{self}{end}")


class RichBar:
    """A bar of rich's."""

    def __init__(self, progress: Any, what: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=total)
        progress.start()

    def update(self, n: int = 1) -> None:
        self._progress.advance(self._task, n)

    def close(self) -> None:
        self._progress.stop()


def bar(what: str, total: int | None) -> Bar:
    """The best that there is here. `total` is None where nobody knows."""
    if sys.stderr is None:  # descriptor 2 was closed when Python started
        return NoBar()
    if (tqdm := _module("tqdm.auto")) is not None:
        made: Bar = tqdm.tqdm(total=total, desc=what, unit=_UNIT, dynamic_ncols=True)
        return made
    if not _is_terminal():
        return NoBar()
    if (rich := _module("rich.progress")) is not None:
        console = _module("rich.console")
        return RichBar(rich.Progress(console=console.Console(file=sys.stderr)), what, total)
    return LineBar(what, total)


def of_verbose(verbose: Any, what: str, total: int | None) -> Bar:
    """What Keras' `verbose` asks for: 0 nothing, 1 a bar, 2 a line at the end, "auto" a bar on a terminal or in a
    notebook. Raises InvalidInput."""
    if verbose is None or (isinstance(verbose, (int, str)) and verbose in _VERBOSE):
        if verbose == 2:
            return SummaryBar(what, total)
        is_shown = verbose == 1 or (verbose == "auto" and (_is_terminal() or "ipykernel" in sys.modules))
        return bar(what, total) if is_shown else NoBar()
    raise InvalidInput(f'verbose must be 0, 1, 2 or "auto", got {verbose!r}')


def total_of(batches: Any) -> int | None:
    """How many there are, if they know."""
    return len(batches) if isinstance(batches, Sized) else None


def counted(answers: Iterator[T], what: str, batches: Any) -> Iterator[T]:
    """The answers to `batches`, each counted on a bar."""
    return over(answers, lambda: bar(what, total_of(batches)))


def over(answers: Iterator[T], make: Callable[[], Bar]) -> Generator[T, None, None]:
    """The answers, each counted on the bar that `make` makes. It ends its line whatever happens."""
    shown = make()
    try:
        for answer in answers:
            shown.update(1)
            yield answer
    finally:
        shown.close()
        if isinstance(answers, Generator):
            answers.close()


async def over_async(answers: AsyncIterator[T], make: Callable[[], Bar]) -> AsyncGenerator[T, None]:
    """The same in an event loop."""
    shown = make()
    try:
        async for answer in answers:
            shown.update(1)
            yield answer
    finally:
        shown.close()
        if isinstance(answers, AsyncGenerator):
            await answers.aclose()


def _say(text: str) -> None:
    """On standard error, if there is one that takes it: no call fails because its progress cannot be shown."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text)
        sys.stderr.flush()


def _is_terminal() -> bool:
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


def _module(name: str) -> Any:
    """None where it is not installed."""
    with warnings.catch_warnings(), contextlib.suppress(ImportError):
        warnings.simplefilter("ignore")  # tqdm's, of notebooks without widgets
        return importlib.import_module(name)
    return None
