"""Forked worker processes for tests: each runs one function; its result, or what it raised, comes back."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

_fork = multiprocessing.get_context("fork")
_PATIENCE_S = 60.0
_END_S = 5.0  # between the close of its pipe and its end


class WorkerFailed(AssertionError):
    """The function raised, in the worker; its traceback is the message."""


class Worker:
    """A child that runs `function(*args)`. `say` and `hear` talk with a function that takes the pipe."""

    def __init__(self, function: Callable[..., Any], *args: Any, talk: bool = False) -> None:
        self._pipe, theirs = _fork.Pipe()
        self._process = _fork.Process(target=_main, args=(self._pipe, theirs, function, args, talk))
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        pid = self._process.pid
        assert pid is not None
        return pid

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    @property
    def has_said(self) -> bool:
        """There is something to hear, or nobody left to say it."""
        return self._pipe.poll(0)

    def say(self, message: Any = None) -> None:
        self._pipe.send(message)

    def hear(self, patience_s: float = _PATIENCE_S) -> Any:
        """The next thing that it says; raises WorkerFailed if it has failed instead, EOFError if it has ended."""
        assert self._pipe.poll(patience_s), f"worker {self.pid} says nothing"
        try:
            kind, value = self._pipe.recv()
        except EOFError:
            self._process.join(_END_S)
            raise EOFError(f"worker {self.pid} said nothing; its end: {self._process.exitcode}") from None
        if kind == "error":
            raise WorkerFailed(value)
        return value

    def result(self, patience_s: float = _PATIENCE_S) -> Any:
        value = self.hear(patience_s)
        self._process.join(_PATIENCE_S)
        assert self._process.exitcode == 0, f"worker {self.pid} ended with {self._process.exitcode}"
        return value

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        self._process.join()

    def wait(self) -> int | None:
        """Wait for the end that it brings about itself; the exit status, -N for signal N."""
        self._process.join(_PATIENCE_S)
        return self._process.exitcode

    def close(self) -> None:
        self._pipe.close()
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._process.close()


class Talk:
    """The worker's end of the pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def fileno(self) -> int:
        return self._pipe.fileno()

    def say(self, message: Any = None) -> None:
        self._pipe.send(("said", message))

    @property
    def is_told(self) -> bool:
        """There is something to hear."""
        return self._pipe.poll(0)

    def hear(self) -> Any:
        assert self._pipe.poll(_PATIENCE_S), "the test says nothing"
        return self._pipe.recv()


@contextlib.contextmanager
def worker(function: Callable[..., Any], *args: Any, talk: bool = False) -> Iterator[Worker]:
    """A worker that is gone after the block. With `talk`, the function's first argument is a Talk."""
    made = Worker(function, *args, talk=talk)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def workers(count: int, function: Callable[..., Any], *args: Any) -> Iterator[list[Worker]]:
    """`count` workers; each gets its number as the first argument."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(worker(function, number, *args)) for number in range(count)]


def in_child(function: Callable[..., Any], *args: Any) -> Any:
    """Run `function` in a forked child; its result."""
    with worker(function, *args) as child:
        return child.result()


def leave_pytest() -> None:
    """In a child, before anything is tested there: let go of what pytest has put into its process.

    Its hooks keep every exception, and with it the frames and all that their variables hold: a signal handler that
    raises inside a __del__ would have the child keep a channel for good. Its sys.stderr is a file with a descriptor:
    where a test closes those, what is printed goes into whatever got the number. And what came as garbage is not for
    the child to collect, which would close numbers, too.
    """
    sys.unraisablehook, threading.excepthook = sys.__unraisablehook__, threading.__excepthook__
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    gc.freeze()


def _main(
    parents: Connection, pipe: Connection, function: Callable[..., Any], args: tuple[Any, ...], talk: bool
) -> None:
    parents.close()
    signal.setitimer(signal.ITIMER_REAL, 0)
    # An alarm that another thread takes late finds the handler that was there before the test's own: not pytest's.
    signal.signal(signal.SIGALRM, lambda *_: None)
    leave_pytest()
    try:
        value = function(Talk(pipe), *args) if talk else function(*args)
        message = "result", value
        pickle.dumps(message)
    except BaseException:
        message = "error", traceback.format_exc()
    pipe.send(message)
    pipe.close()
