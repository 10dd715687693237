"""The demo's output while it runs: a line for each step, animated while the step runs, with its time at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.status import Status
from rich.table import Table

WIDTH = 100


class ScreenStep:
    """One step on its way. `note` changes the moving line; `result` is what the finished line says."""

    status: Status

    def __init__(self, title: str) -> None:
        self.title = title
        self.result = ""

    def note(self, text: str) -> None:
        self.status.update(f"{self.title}: [dim]{escape(text)}[/]")


class Screen:
    """At most 100 columns; without a terminal, the finished lines only."""

    def __init__(self, steps: int) -> None:
        self.console = Console(highlight=False)
        self.console.width = min(WIDTH, self.console.width) if self.console.is_terminal else WIDTH
        self._steps = steps
        self._step = 0

    def head(self, title: str, text: str) -> None:
        self.console.print(f"\n[bold]{escape(title)}[/]\n[dim]{escape(text)}[/]\n")

    @contextmanager
    def step(self, title: str, last: bool = False) -> Iterator[ScreenStep]:
        """`last` is the step that always comes, whatever was left out before."""
        self._step = self._steps if last else self._step + 1
        step = ScreenStep(f"[dim]{self._step}/{self._steps}[/] {escape(title)}")
        began, mark = monotonic(), "[bold red]✗[/]"
        try:
            with self.console.status("") as step.status:
                step.note("...")
                yield step
            mark = "[green]✓[/]"
        finally:
            result = f": {escape(step.result)}" if step.result else ""
            self.console.print(f"{mark} {step.title}{result} [dim]({monotonic() - began:.1f} s)[/]")

    def show(self, *parts: RenderableType) -> None:
        for part in parts:
            self.console.print(part)

    def checks(self, checks: Iterable[tuple[bool, str]]) -> None:
        """Each with its mark, and its text beside that however many lines it takes."""
        table = Table.grid(padding=(0, 1), pad_edge=True)
        for holds, text in checks:
            table.add_row("[green]✓[/]" if holds else "[bold red]✗[/]", escape(text))
        self.show("\n[bold]Checks[/]", table)

    def error(self, text: str) -> None:
        self.console.print(f"\n[bold red]The demo stopped:[/] {escape(text)}\n")
