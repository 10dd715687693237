"""Calls around signals and forks, made by the main thread."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable

from tests.differential.caller import Caller, Wrong
from tests.differential.draw import Draw
from tests.differential.kinds.kind import Kind
from tests.differential.ways import futures, waiting
from tests.differential.ways.way import MAIN, Do, Way, light
from tests.forks import fork_in_c
from tests.interrupts import Interrupted
from worker_client import BrokerError

CHILD_SECONDS = 100
_REFUSED = "a signal handler cannot"


def interrupted(caller: Caller, kind: Kind, draw: Draw) -> None:
    """A handler raises in the middle of a call, wherever that is."""

    def fail(*_: object) -> None:
        raise Interrupted

    way: Do = draw.among((waiting.predict, waiting.request, futures.submit))
    before = signal.signal(signal.SIGALRM, fail)
    with caller.out_of_order():
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, draw.seconds(1e-6, 5e-4))
                way(caller, kind, draw)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Interrupted:
            caller.count("interrupted")
        finally:
            signal.signal(signal.SIGALRM, before)


def from_handlers(caller: Caller, kind: Kind, draw: Draw) -> None:
    """Handlers make calls in the middle of a call. If that call is attaching, theirs are refused."""
    running: list[bool] = []
    seeds = draw.again()

    def call(*_: object) -> None:
        if not running and len(seen) < 3:
            running.append(True)
            seen.append(True)
            try:
                waiting.predict(caller, kind, seeds)
            except BrokerError as error:
                if _REFUSED not in str(error):
                    raise
                caller.count("refused in a handler")
            running.clear()

    seen: list[bool] = []
    way: Do = draw.among((waiting.predict, waiting.request, futures.submit, futures.mapped))
    before = signal.signal(signal.SIGALRM, call)
    with caller.out_of_order():
        try:
            signal.setitimer(signal.ITIMER_REAL, draw.seconds(1e-6, 5e-4), 4e-4)
            way(caller, kind, draw)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def forked(caller: Caller, kind: Kind, draw: Draw) -> None:
    """A child makes calls with its parent's handles, and forks a child of its own now and then; the parent calls
    meanwhile and afterwards."""
    _in_child(os.fork, caller, kind, draw)


def forked_in_c(caller: Caller, kind: Kind, draw: Draw) -> None:
    """The same, without a hook that notifies Python."""
    _in_child(fork_in_c, caller, kind, draw)


def _in_child(fork: Callable[[], int], caller: Caller, kind: Kind, draw: Draw) -> None:
    waiting.predict(caller, kind, draw)
    pid = fork()
    if pid == 0:
        _live(fork, caller.in_child(), kind, draw)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise Wrong(f"a forked child ended with {status}; its traceback is in the log")
    waiting.predict(caller, kind, draw)


def _live(fork: Callable[[], int], child: Caller, kind: Kind, draw: Draw) -> None:
    """Does not return."""
    status = 9
    try:
        signal.alarm(CHILD_SECONDS)  # it must end, whoever waits for it
        for way in (waiting.predict, futures.submit, waiting.request):
            child.attempt(way, kind.name, draw.bits())
        if draw.one_in(4):
            child.attempt(lambda *given: _in_child(fork, *given), kind.name, draw.bits())
        status = 0
    except BaseException:
        traceback.print_exc()
        child.board.fail()
    finally:
        os._exit(status)


WAYS = (
    Way("interrupted", 5, interrupted, MAIN, light),
    Way("from_handlers", 4, from_handlers, MAIN, futures.never_fails),
    Way("forked", 0.5, forked, MAIN, light),
    Way("forked_in_c", 0.5, forked_in_c, MAIN, light),
)
