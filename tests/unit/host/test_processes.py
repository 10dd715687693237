"""What is read of a process that lives, of one that has ended, and of one that nobody has waited for."""

from __future__ import annotations

import os
import subprocess
import sys

from broker.host import processes


def test_a_living_process() -> None:
    """It is there, with its files, its name and its parents."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        try:
            assert processes.exists(child.pid)
            assert not processes.is_ending(child.pid)
            assert processes.name_of(child.pid).startswith("python")
            assert processes.link(child.pid, "cwd") == os.getcwd()
            assert next(processes.ancestors(child.pid)) == os.getpid()
        finally:
            child.kill()


def test_one_that_has_ended() -> None:
    """Between its end and the wait for it it is ending; then there is nothing of it."""
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes.is_ending(child.pid)
    child.wait()
    assert processes.is_ending(child.pid)
    assert not processes.exists(child.pid)
    assert processes.read(child.pid, "stat") is processes.link(child.pid, "cwd") is None
    assert processes.name_of(child.pid) == "?"
    assert list(processes.ancestors(child.pid)) == []
