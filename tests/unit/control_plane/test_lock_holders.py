"""Who holds a lock, by /proc/locks."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from worker_client.system.held import is_held, is_listed


def test_a_lock_is_held_as_long_as_its_holder_has_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not is_held(lock)
    fd = os.open(lock, os.O_CREAT | os.O_RDWR)
    assert not is_held(lock)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert is_held(lock)
    os.close(fd)
    assert not is_held(lock)


def test_the_same_number_on_another_file_system_is_another_file() -> None:
    facts = [0] * 10
    facts[1:3] = 12, os.makedev(0, 0x2F)
    found = os.stat_result(facts)
    assert is_listed(found, "1: FLOCK  ADVISORY  WRITE 558 00:2f:12 0 EOF\n")
    assert not is_listed(found, "1: FLOCK  ADVISORY  WRITE 558 00:30:12 0 EOF\n")
    assert not is_listed(found, "1: FLOCK  ADVISORY  WRITE 558 00:2f:123 0 EOF\n")
