"""The load on the machine beside an arm: other busy processes, and the limit of a control group.

The limit is a real one where a group can be made (versions 1 and 2). Elsewhere it is imitated as the kernel does it:
the arm's processes are stopped once they have used up what they may in a period, and go on with the next.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from broker.bench.load.forks import forked
from broker.host import quota
from broker.host.cgroup import Group, groups
from broker.host.usage import cpu_s

PERIOD_S = 0.1
"""The period of a quota: the kernel's default."""
_LOOK_S = 0.002
_NOTICED_S = 1.5  # a broker reads its limits every second


@dataclass(frozen=True)
class Surroundings:
    """`busy` processes at `nice`, and at most `quota` processors' worth of time for all arms together."""

    name: str
    label: str
    busy: int = 0
    nice: int = 0
    quota: float | None = None

    @contextmanager
    def imposed(self, pids: Iterable[int], group: Group | None) -> Iterator[None]:
        """On these processes, which are in `group` if there is one."""
        with ExitStack() as stack:
            if self.quota is not None:
                limit = _limited(group, self.quota) if group else _imitated(list(pids), self.quota)
                stack.enter_context(limit)
                time.sleep(_NOTICED_S)
            for _ in range(self.busy):
                stack.enter_context(forked(_spin, self.nice))
            yield


QUIET = Surroundings("quiet", "quiet")


@contextmanager
def group_for(surroundings: Iterable[Surroundings]) -> Iterator[Group | None]:
    """A control group for the arms, if one of these surroundings needs one and it can be made."""
    with _own_group() if any(each.quota for each in surroundings) else nullcontext() as group:
        yield group


def throttled_s(group: Group | None) -> float:
    """How long its quota has stopped its processors so far, summed over the processors."""
    if group is None:
        return 0.0
    return quota.throttled_s(group)


@contextmanager
def _own_group() -> Iterator[Group | None]:
    above = groups("cpu")
    made = Group(above[-1].folder / f"onesession-bench-{os.getpid()}", above[-1].version) if above else None
    if made is not None:
        try:
            made.folder.mkdir()
        except OSError:
            made = None
    if made is not None and not (made.folder / _file(made)).exists():
        made.folder.rmdir()
        made = None
    try:
        yield made
    finally:
        if made is not None:
            _remove(made.folder)


def _remove(folder: Path) -> None:
    for _ in range(100):  # a process that has just ended stays in the group for a moment
        with suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.05)


def _file(group: Group) -> str:
    return "cpu.max" if group.version == 2 else "cpu.cfs_quota_us"


@contextmanager
def _limited(group: Group, processors: float) -> Iterator[None]:
    file, period_us = group.folder / _file(group), int(PERIOD_S * 1e6)
    limit = int(processors * period_us)
    file.write_text(f"{limit} {period_us}" if group.version == 2 else str(limit))
    try:
        yield
    finally:
        file.write_text(f"max {period_us}" if group.version == 2 else "-1")


@contextmanager
def _imitated(pids: list[int], processors: float) -> Iterator[None]:
    with forked(_imitate, pids, processors):
        yield
    _send(pids, signal.SIGCONT)  # it may have ended while they stood still


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _imitate(pids: list[int], processors: float) -> None:
    while True:
        begun, end = cpu_s(pids), time.monotonic() + PERIOD_S
        while time.monotonic() < end and cpu_s(pids) - begun < processors * PERIOD_S:
            time.sleep(_LOOK_S)
        if time.monotonic() < end:
            _send(pids, signal.SIGSTOP)
            time.sleep(max(0.0, end - time.monotonic()))
            _send(pids, signal.SIGCONT)


def _spin(nice: int) -> None:
    os.nice(nice)
    while True:
        pass
