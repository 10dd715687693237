"""A broker's process as its parent starts it; the parent's other children belong to other code."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from broker.process.spawn import SpawnedProcess


def child(program: str, *arguments: str, keep: tuple[int, ...] = ()) -> SpawnedProcess:
    return SpawnedProcess(["-c", program, *arguments], keep, dict(os.environ))


def ended(started: SpawnedProcess) -> str:
    started.stdin.close()
    return started.describe_end()


@pytest.mark.parametrize(
    ("program", "end"),
    [
        ("", "ended with status 0"),
        ("raise SystemExit(7)", "ended with status 7"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 1)",
            f"was killed by signal {signal.SIGRTMIN + 1}",
        ),
    ],
)
def test_it_tells_how_it_ended(program: str, end: str) -> None:
    """By its status, or the signal that killed it."""
    assert ended(child(program)) == end


def test_its_end_is_seen_when_somebody_else_has_waited_for_it() -> None:
    """The end is noticed even if a server's master waits for all children, and takes the status."""
    started = child("import sys; sys.stdin.read(); sys.exit(3)")
    assert not started.has_ended()
    assert not started.wait(0.01)
    started.stdin.close()
    assert os.waitpid(started.pid, 0)[0] == started.pid
    assert started.has_ended()
    assert started.wait(0.01)
    assert (started.describe_end(), started.status) == ("ended", None)
    started.kill()  # does nothing, to nobody


def test_it_is_killed_when_it_does_not_end() -> None:
    """`wait` gives up in time, `kill` does not wait."""
    started = child("import sys, time; sys.stdin.read(); time.sleep(60)")
    started.stdin.close()
    assert not started.wait(0.01)
    started.kill()
    assert started.wait(30)
    assert started.status == -signal.SIGKILL


LIST = """
import os, sys
def target(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return "the list itself"
os.write(int(sys.argv[1]), chr(10).join(target(fd) for fd in os.listdir("/proc/self/fd") if int(fd) > 2).encode())
"""


def test_it_inherits_what_is_kept_and_nothing_else() -> None:
    """Not even a socket that was made for other programs to inherit, as a server's listening sockets are."""
    read, write = os.pipe()
    with socket.socket() as listening, open(read, "rb") as told:
        listening.set_inheritable(True)
        started = child(LIST, str(write), keep=(write,))
        assert not os.get_inheritable(write)
        pipe = os.readlink(f"/proc/self/fd/{write}")
        os.close(write)
        assert ended(started) == "ended with status 0"
        assert sorted(told.read().decode().split("\n")) == [pipe, "the list itself"]


def test_it_is_out_of_the_terminals_reach() -> None:
    """A session of its own: Ctrl-C is for the parent."""
    started = child("import os; raise SystemExit(os.getsid(0) != os.getpid())")
    assert ended(started) == "ended with status 0"


def test_what_cannot_be_started_leaves_no_descriptor() -> None:
    """The error is the system's own; the leak check finds what stays open."""
    with pytest.raises(OSError, match="too long"):
        child("pass", "x" * 4_000_000)
