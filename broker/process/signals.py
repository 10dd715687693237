"""Signals: undoes what our parent ignored or blocked, and lets our programs take signals one by one.

A signal that is ignored or blocked stays so across exec(). So each of our programs first sets this (`settle`):

     SIGCHLD ignored       reset to default: ignored, our children's exit statuses would be lost
     SIGTERM ignored       reset to default: no terminal sends it, so its sender means us
    SIGHUP, SIGINT, SIGQUIT ignored     stay so: nohup, and `&` in a script (`heeded`)
    anything blocked      unblocked
     SIGPIPE               Python ignores it, and its previous setting is unknown

and a command that we start gets the inherited settings (`InheritedSignals.restore`).

The main thread of a supervisor waits for its signals and takes them one by one, with their senders, without handlers.
For that they must be blocked in every thread: a thread that does not block a signal receives it while the main thread
is busy, which ends the process. numpy starts threads when it is imported, before our code runs; `begin_again_blocked`
executes the program again, in the same process, with the signals blocked from the beginning.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from worker_client.interpreter.executable import python

Mask = set[int | signal.Signals]

_VARIABLE = "ONESESSION_SIGNALS"  # carries the inherited settings while the program is executed again


class InheritedSignals(NamedTuple):
    """The inherited signal settings that we changed."""

    blocked: frozenset[int]
    ignores_children: bool

    def restore(self) -> None:
        """Restore them for a program that is about to be executed in this process."""
        if self.ignores_children:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.blocked)


_given: InheritedSignals | None = None
_begun_again = False


def settle() -> None:
    """Change inherited settings as described above. Called first in each of our programs, on the main thread only."""
    global _given, _begun_again
    text = os.environ.pop(_VARIABLE, None)
    if text is not None:
        _begun_again = True
        ignores_children, *blocked_before = map(int, text.split())
        _given = InheritedSignals(frozenset(blocked_before), bool(ignores_children))
        return
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _given = InheritedSignals(frozenset(map(int, mask)), heed_children())


def heed_children() -> bool:
    """Stop ignoring SIGCHLD, so that the exit statuses of children are kept. Returns whether it was ignored before."""
    ignored = _is_ignored(signal.SIGCHLD)
    if ignored:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return ignored


def heeded(signals: Iterable[signal.Signals]) -> frozenset[signal.Signals]:
    """The signals among these that must not be ignored."""
    return frozenset(number for number in signals if number == signal.SIGTERM or not _is_ignored(number))


def _is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN


def begin_again_blocked(signals: Iterable[signal.Signals]) -> None:
    """If there are threads that do not block these and SIGCHLD, execute this program again with them blocked.

    Signals that come in the meantime stay pending.
    """
    waited = {*signals, signal.SIGCHLD}
    if _begun_again or all(waited <= mask for mask in _masks_of_other_threads()):
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    given = _given or InheritedSignals(frozenset(map(int, before)), ignores_children=False)
    os.environ[_VARIABLE] = " ".join(map(str, (int(given.ignores_children), *sorted(given.blocked))))
    sys.stdout.flush()
    sys.stderr.flush()
    program = python()
    os.execv(program, [program, *sys.orig_argv[1:]])


class Signals:
    """Takes the blocked signals. `given` are the inherited settings, for a command that is started in the block."""

    def __init__(self, waited: Mask, given: InheritedSignals) -> None:
        self._waited = waited
        self.given = given

    def next(self, seconds: float | None) -> signal.struct_siginfo | None:
        """Wait for a signal; None if none comes within `seconds`."""
        if seconds is None:
            return signal.sigwaitinfo(self._waited)
        return signal.sigtimedwait(self._waited, seconds)

    def discard(self) -> None:
        """Discard the pending signals."""
        while self.next(0) is not None:
            pass


@contextlib.contextmanager
def blocked(signals: Iterable[signal.Signals]) -> Iterator[Signals]:
    """Block these signals and SIGCHLD in the block. Called on the main thread only."""
    waited: Mask = {*signals, signal.SIGCHLD}
    before: Mask = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    if _begun_again:
        before -= waited
    taken = Signals(waited, _given or InheritedSignals(frozenset(map(int, before)), ignores_children=False))
    try:
        yield taken
    finally:
        taken.discard()  # a signal that came too late must not kill us now
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _masks_of_other_threads() -> Iterator[Mask]:
    for task in Path("/proc/self/task").iterdir():
        if task.name != str(os.getpid()):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
                yield blocked_by((task / "status").read_text())


def blocked_by(status: str) -> Mask:
    """The signals that a thread blocks, by its /proc/.../status."""
    return _numbers(status, "SigBlk")


def pending_for(pid: int) -> Mask:
    """The signals that were sent to a process and that it has not taken yet. Raises OSError."""
    return _numbers(Path(f"/proc/{pid}/status").read_text(), "ShdPnd")


def _numbers(status: str, field: str) -> Mask:
    (bits,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith(field))
    return {number for number in signal.valid_signals() if bits >> (number - 1) & 1}
