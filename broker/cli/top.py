"""`onesession top`: a live view of a broker in a terminal."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from functools import partial

import click
from rich.console import Console
from rich.live import Live

from broker.cli.options import reported_errors, running_option
from broker.cli.top_screen import History, frame
from broker.cli.top_view import SORTS, TopView
from broker.control_plane.query import ask
from worker_client.system.clock import monotonic
from worker_client.wire.errors import BrokerError

_MOST_KEYS = 64
_INTERRUPT = "\x03"


@click.command()
@running_option
@click.option(
    "--interval",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.1, 60),
    help="Seconds between updates.",
)
@click.option(
    "--sort",
    type=click.Choice(tuple(SORTS)),
    help="Order of the models; numbers from the largest on.  [default: the broker's order]",
)
@click.option(
    "--filter", "filter_", default="", metavar="TEXT", help="Show only models and signatures with this text."
)
@click.option(
    "--all", "all_", is_flag=True, help="Show also signatures that were never called, of models that were."
)
@click.option("--once", is_flag=True, help="Show one interval, then exit.")
def top(name: str | None, interval: float, sort: str | None, filter_: str, all_: bool, once: bool) -> None:
    """Watch a broker: its models, their load and latency, its workers, its memory.

    Latencies are measured from a request's submission until its answer is in shared memory. Press `q` or Ctrl-C to
    quit, and `h` for the other keys: they sort and filter. The view continues when the broker restarts.
    """
    console, history = Console(), History()
    view = TopView(sort or "", filter_, all_)
    with reported_errors():
        history.add(ask(name, "stats")["stats"])
    if once:
        select.select([], [], [], interval)
        with reported_errors():
            history.add(ask(name, "stats")["stats"])
        console.print(frame(history, console.width, console.height, view=view))
    elif not (sys.stdin.isatty() and console.is_terminal):
        raise click.ClickException(
            "onesession top needs a terminal; for programs there is onesession stats --json"
        )
    else:
        _watch(console, history, view, name, interval)


def _watch(console: Console, history: History, view: TopView, name: str | None, interval: float) -> None:
    descriptor = sys.stdin.fileno()
    with _keys(descriptor), Live(console=console, screen=True, auto_refresh=False) as live:
        note = ""
        while True:
            shown = partial(_show, live, console, history, view, note)
            shown()
            if _told_to_quit(descriptor, interval, view, shown):
                return
            try:
                history.add(ask(name, "stats")["stats"])
                note = ""
            except BrokerError as error:
                note = str(error)


def _show(live: Live, console: Console, history: History, view: TopView, note: str) -> None:
    live.update(frame(history, console.width, console.height, note, view), refresh=True)


@contextlib.contextmanager
def _keys(descriptor: int) -> Iterator[None]:
    """One key at a time, without echo. Ctrl-C is read as a key too, so that it ends the view between two frames."""
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    now = termios.tcgetattr(descriptor)
    now[3] &= ~termios.ISIG
    termios.tcsetattr(descriptor, termios.TCSADRAIN, now)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _told_to_quit(descriptor: int, seconds: float, view: TopView, show: Callable[[], None]) -> bool:
    """True if a key asks to quit within this time, or if the terminal goes away. What other keys change is shown.

    Raises KeyboardInterrupt at Ctrl-C.
    """
    deadline = monotonic() + seconds
    while (left := deadline - monotonic()) > 0:
        if select.select([descriptor], [], [], left)[0]:
            keys = os.read(descriptor, _MOST_KEYS).decode(errors="replace")
            if _INTERRUPT in keys:
                raise KeyboardInterrupt
            if view.press_all(keys):
                return True
            show()
    return False
