"""What the demo shows while it runs: a line for each step, moving as long as it runs, with its time when it is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.status import Status

WIDTH = 100


class Step:
    """One step on its way. `note` changes the moving line; `result` is what the finished line says."""

    def __init__(self, title: str, status: Status) -> None:
        self.title = title
        self.result = ""
        self._status = status

    def note(self, text: str) -> None:
        self._status.update(f"{self.title}: [dim]{escape(text)}[/]")


class Screen:
    """At most 100 columns; without a terminal, the finished lines only."""

    def __init__(self, steps: int) -> None:
        self.console = Console(highlight=False)
        self.console.width = min(WIDTH, self.console.width) if self.console.is_terminal else WIDTH
        self._steps = steps
        self._step = 0
        self._began = monotonic()

    def head(self, title: str, text: str) -> None:
        self.console.print(f"\n[bold]{escape(title)}[/]\n[dim]{escape(text)}[/]\n")

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        self._step += 1
        number = f"[dim]{self._step}/{self._steps}[/]"
        began = monotonic()
        with self.console.status(title) as status:
            step = Step(f"{number} {escape(title)}", status)
            step.note("...")
            yield step
        self._line(
            "[green]✓[/]", number, f"{escape(title)}: [dim]{escape(step.result)}[/]", monotonic() - began
        )

    def show(self, *parts: RenderableType) -> None:
        for part in parts:
            self.console.print(part)

    def check(self, holds: bool, text: str) -> None:
        mark = "[green]✓[/]" if holds else "[bold red]✗[/]"
        self.console.print(f"  {mark} {escape(text)}")

    def error(self, text: str) -> None:
        self.console.print(f"\n[bold red]The demo stopped:[/] {escape(text)}")

    @property
    def seconds(self) -> float:
        return monotonic() - self._began

    def _line(self, mark: str, number: str, text: str, seconds: float) -> None:
        self.console.print(f"{mark} {number} {text} [dim]({seconds:.1f} s)[/]")
