"""What we open for others gets no number of a standard descriptor; what is missing of those is /dev/null."""

from __future__ import annotations

import os

from broker.host import descriptors
from worker_client.system.descriptor import above_standard


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
