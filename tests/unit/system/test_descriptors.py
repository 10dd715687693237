"""Descriptors for other processes never get a standard number; missing standard descriptors become /dev/null."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from broker.own_process import descriptors
from worker_client.system.descriptor import (
    OwnSocket,
    above_standard,
    close_left,
    identity_of,
    left_to_callers,
    new_pipe,
)


def test_in_a_process_without_them() -> None:
    """In a child, whose 0, 1 and 2 are closed."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.closerange(0, 3)
            ends = descriptors.pipe()
            status = 2
            assert min(ends) > 2
            assert not any(map(os.get_inheritable, ends))
            assert not descriptors.is_output(1)
            status = 3
            kept = os.open(os.devnull, os.O_RDONLY)
            assert kept == 0
            os.set_inheritable(0, True)
            assert not descriptors.is_output(0), "nobody can write there"
            status = 4
            descriptors.open_missing()
            assert [os.readlink(f"/proc/self/fd/{fd}") for fd in descriptors.STANDARD] == ["/dev/null"] * 3
            assert descriptors.is_output(1)
            assert above_standard(ends[0]) == ends[0]
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_an_app_s_own_file_is_not_an_output() -> None:
    """Python opens files that are not inheritable: such a number is not handed to a process that we start."""
    read, write = os.pipe()
    try:
        assert not descriptors.is_output(write)
        os.set_inheritable(write, True)
        assert descriptors.is_output(write)
        assert not descriptors.is_output(read)
    finally:
        os.close(read)
        os.close(write)


def test_what_is_left_to_callers_is_closed_later(tmp_path: Path) -> None:
    """A thread that finds one of its descriptors closed by other code closes none, because the app may still be closing
    and then opens its own. Later ours are closed, but not the app's."""
    first, second = new_pipe()
    own = OwnSocket(socket.socket(socket.AF_UNIX))
    numbers = first.fd, second.fd, own.sock.fileno()
    with left_to_callers():
        for each in (first, second, own):
            each.close()
    assert all(map(identity_of, numbers))
    os.close(numbers[0])
    theirs = os.open(tmp_path, os.O_PATH)
    assert theirs == numbers[0]
    close_left()
    assert [identity_of(number) is not None for number in numbers] == [True, False, False]
    os.close(theirs)
    close_left()
