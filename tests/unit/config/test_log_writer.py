"""Logging never blocks: lines beyond the limit are dropped and counted."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from broker.config.log_writer import MOST_LINES, LogWriter
from tests.brokers import wait_until


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(write)
    os.close(read)


def read_all(fd: int) -> bytes:
    """What there is now."""
    os.set_blocking(fd, False)
    found = b""
    try:
        while part := os.read(fd, 1 << 16):
            found += part
    except BlockingIOError:
        pass
    return found


def in_child(body) -> int:  # type: ignore[no-untyped-def]
    """The status of a child that runs it: the writer's thread lives as long as its process."""
    pid = os.fork()
    if pid == 0:
        try:
            body()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_line_is_written_at_once(pipe: tuple[int, int]) -> None:
    """Without a thread, where there is room."""
    read, write = pipe
    writer = LogWriter(write)
    writer.write("größe \udcf6\n")
    assert read_all(read) == "größe \\udcf6\n".encode()
    writer.flush()


def test_lines_keep_their_order_and_losses_are_counted(pipe: tuple[int, int]) -> None:
    """A full pipe blocks no thread; when it is read, the first lines come, and the number of lost ones."""
    read, write = pipe

    def log() -> None:
        writer = LogWriter(write)
        lines = 3 * MOST_LINES
        for number in range(lines):
            writer.write(f"{number} {'.' * 200}\n")
        assert writer.dropped > 0
        writer.flush(0.01)
        found = b""

        def complete() -> bool:
            nonlocal found
            found += read_all(read)
            return b"were dropped" in found

        wait_until(complete, "the count")
        wait_until(lambda: writer.dropped == 0, "an end")
        told = found.decode().splitlines()
        note = next(line for line in told if "were dropped" in line)
        numbers = [int(line.split()[0]) for line in told if line[0] != "("]
        assert numbers == list(range(len(numbers)))
        assert int(note.split()[0][1:]) == lines - max(MOST_LINES, len(numbers)) or len(numbers) < lines

    assert in_child(log) == 0


def test_a_forked_child_writes_its_own_lines(pipe: tuple[int, int]) -> None:
    """Not those that wait in its parent, and with no thread of the parent's."""
    read, write = pipe

    def log() -> None:
        writer = LogWriter(write)
        writer.start()
        writer.write("parent\n")
        writer.flush(30)
        assert in_child(lambda: writer.write("child\n")) == 0

    assert in_child(log) == 0
    assert read_all(read) == b"parent\nchild\n"


def test_a_reader_that_has_gone(pipe: tuple[int, int]) -> None:
    """There is nobody to tell; nothing is raised."""
    read, write = os.pipe()
    os.close(read)
    writer = LogWriter(write)
    writer.write("nobody\n")
    os.close(write)
    writer.write("nobody\n")
