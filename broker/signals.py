"""Signals taken one by one, with who sent them: by the main thread, which waits for them, and by no handler.

For that they must be blocked in every thread: one that does not block a signal is given it while the main thread is
busy, and dies of it with the process. numpy makes threads when it is imported, so it is too late when our code runs;
`begin_again_blocked` starts the program anew, in the same process, with the signals blocked from the beginning.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

Mask = set[int | signal.Signals]

_VARIABLE = "ONESESSION_SIGNAL_MASK"  # the mask before, while the program begins again


def begin_again_blocked(signals: Iterable[signal.Signals]) -> None:
    """If there are threads that do not block these and SIGCHLD, execute this program again with them blocked.

    Signals that come meanwhile stay pending.
    """
    waited = {*signals, signal.SIGCHLD}
    if _VARIABLE in os.environ or all(waited <= mask for mask in _masks_of_other_threads()):
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    os.environ[_VARIABLE] = " ".join(str(int(number)) for number in before)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


class Signals:
    """The signals that are blocked."""

    def __init__(self, waited: Mask, mask_before: Mask) -> None:
        self._waited = waited
        self.mask_before = mask_before

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
    if _VARIABLE in os.environ:
        before = {int(number) for number in os.environ.pop(_VARIABLE).split()}
    taken = Signals(waited, before)
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
    (bits,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigBlk"))
    return {number for number in signal.valid_signals() if bits >> (number - 1) & 1}
