"""Signals: what whoever started us has ignored or blocked, and how our programs take theirs one by one.

A signal that is ignored or blocked stays so over exec(). So each program of ours settles that first (`settle`):

    SIGCHLD ignored       heeded all the same: ignored, it would take our children's exit statuses
    SIGTERM ignored       heeded all the same: no terminal sends it; whoever does means us
    SIGHUP, SIGINT, SIGQUIT ignored     stay so: nohup, and `&` in a script (`heeded`)
    anything blocked      unblocked
    SIGPIPE               Python has it ignored, and nobody can tell what it was before

and a command that we start gets them as we did (`Given.restore`).

Supervisors take their signals one by one, with who sent them: by the main thread, which waits for them, and by no
handler. For that they must be blocked in every thread: one that does not block a signal is given it while the main
thread is busy, and dies of it with the process. numpy makes threads when it is imported, so it is too late when our
code runs; `begin_again_blocked` starts the program anew, in the same process, with the signals blocked from the
beginning.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from worker_client.system.interpreter import python

Mask = set[int | signal.Signals]

_VARIABLE = "ONESESSION_SIGNALS"  # what was given, while the program begins again


class InheritedSignals(NamedTuple):
    """What whoever started this program has set, of what we set otherwise."""

    blocked: frozenset[int]
    ignores_children: bool

    def restore(self) -> None:
        """For a program that is about to be executed in this process."""
        if self.ignores_children:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.blocked)


_given: InheritedSignals | None = None
_begun_again = False


def settle() -> None:
    """At the entry of a program of ours. Main thread only."""
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
    """Be told of children's ends, and of how they ended; whether that was ignored before."""
    ignored = _is_ignored(signal.SIGCHLD)
    if ignored:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return ignored


def heeded(signals: Iterable[signal.Signals]) -> frozenset[signal.Signals]:
    """Those of them that are not to be ignored."""
    return frozenset(number for number in signals if number == signal.SIGTERM or not _is_ignored(number))


def _is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN


def begin_again_blocked(signals: Iterable[signal.Signals]) -> None:
    """If there are threads that do not block these and SIGCHLD, execute this program again with them blocked.

    Signals that come meanwhile stay pending.
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
    """The signals that are blocked. `given` is for a command that is started meanwhile."""

    def __init__(self, waited: Mask, given: InheritedSignals) -> None:
        self._waited = waited
        self.given = given

    def next(self, seconds: float | None) -> signal.struct_siginfo | None:
        """Wait for one; None if none comes within `seconds`."""
        if seconds is None:
            return signal.sigwaitinfo(self._waited)
        return signal.sigtimedwait(self._waited, seconds)

    def discard(self) -> None:
        """Forget those that wait to be taken."""
        while self.next(0) is not None:
            pass


@contextlib.contextmanager
def blocked(signals: Iterable[signal.Signals]) -> Iterator[Signals]:
    """Block these and SIGCHLD in the block. Main thread only."""
    waited: Mask = {*signals, signal.SIGCHLD}
    before: Mask = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    if _begun_again:
        before -= waited
    taken = Signals(waited, _given or InheritedSignals(frozenset(map(int, before)), ignores_children=False))
    try:
        yield taken
    finally:
        taken.discard()  # what came too late to matter must not kill us now
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _masks_of_other_threads() -> Iterator[Mask]:
    for task in Path("/proc/self/task").iterdir():
        if task.name != str(os.getpid()):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
                yield blocked_by((task / "status").read_text())


def blocked_by(status: str) -> Mask:
    """The signals that a thread blocks, by its /proc/.../status."""
    return _numbers(status, "SigBlk")


def pending_for(pid: int) -> Mask:
    """The signals that a process has been sent and has not taken. Raises OSError."""
    return _numbers(Path(f"/proc/{pid}/status").read_text(), "ShdPnd")


def _numbers(status: str, field: str) -> Mask:
    (bits,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith(field))
    return {number for number in signal.valid_signals() if bits >> (number - 1) & 1}
