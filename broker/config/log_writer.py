"""Writes lines to a descriptor that may be full, so that no thread that logs ever waits for the reader.

    any thread -- write --> queue of MOST_LINES --> the writer's thread --> descriptor
                              full: dropped and counted; the count is written when there is room again

A pipe that nobody reads and a terminal that is paused with Ctrl-S block every writer. The thread is started by `start`,
or when a line would have to wait; until then, the thread that logs writes the line itself: TensorFlow is best imported
without threads, and a program that has none needs none.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from queue import SimpleQueue

from worker_client.interpreter import fork

MOST_LINES = 1000
_PIECE = select.PIPE_BUF  # bytes that a pipe takes without blocking if poll(2) reports it as writable
_FLUSH_SECONDS = 1.0


class LogWriter:
    """Queues and writes lines. Thread-safe, and signal handlers may use it. A child that is forked later inherits no
    lines."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.dropped = 0
        fork.register(self, LogWriter.after_fork_in_child)

    def __repr__(self) -> str:
        return (
            f"<LogWriter of descriptor {self._fd}, {self._queue.qsize()} lines wait, {self.dropped} dropped>"
        )

    def write(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")  # also file names that are not UTF-8
        if self._thread is None and len(data) <= _PIECE and self._takes_something():
            self._put_out(data)
        elif self._queue.qsize() >= MOST_LINES:
            self.dropped += 1
        else:
            self._queue.put(data)
            self.start()

    def start(self) -> None:
        """From now on a separate thread writes the lines."""
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._run, args=(self._queue,), name="onesession-log", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads: lines wait, and the next line tries again
            return
        self._thread = thread

    def flush(self, seconds: float = _FLUSH_SECONDS) -> None:
        """Wait until all lines so far are written, for at most `seconds`."""
        if self._thread is not None:
            out = threading.Event()
            self._queue.put(out)
            out.wait(seconds)

    def after_fork_in_child(self) -> None:
        """Start without a thread and without lines: both belong to the parent."""
        self._queue = SimpleQueue()
        self._thread = None
        self.dropped = 0

    def _run(self, queue: SimpleQueue[bytes | threading.Event]) -> None:
        while True:
            item = queue.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            self._put_out(item)
            if self.dropped and queue.qsize() < MOST_LINES // 2:
                dropped, self.dropped = self.dropped, 0
                self._put_out(f"({dropped} lines of the log were dropped: nobody read them)\n".encode())

    def _put_out(self, data: bytes) -> None:
        left = memoryview(data)
        with contextlib.suppress(OSError):  # closed, or its reader has gone: nobody can be notified
            while left:
                try:
                    left = left[os.write(self._fd, left) :]
                except BlockingIOError:  # another process that shares the descriptor made it non-blocking
                    select.select([], [self._fd], [])

    def _takes_something(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(0))
