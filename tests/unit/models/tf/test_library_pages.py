"""Memory that only the import of a library has touched, given back."""

from __future__ import annotations

import subprocess
import sys

from broker.models.tf.library_pages import Mapping, unchanged

MB = 1 << 20


def shown(address: int, nbytes: int, access: str, path: str, own: int = 0, inode: int = 7) -> list[str]:
    """A mapping as /proc/PID/smaps has it; `own` kB of its pages are copies of the process's own."""
    head = f"{address:x}-{address + nbytes:x} {access} 00000000 fe:00 {inode} {' ' * 20}{path}\n"
    return [head, f"Rss: {nbytes >> 10} kB\n", f"Anonymous: {own} kB\n", "VmFlags: rd mr mw me\n"]


def test_only_unchanged_pages_of_libraries_are_dropped() -> None:
    """Nothing that would be lost: no data, no relocated pages, no files that are no library; nothing small."""
    lines = [
        *shown(0x1000000, 4 * MB, "r-xp", "/lib/libtensorflow_cc.so.2"),
        *shown(0x2000000, 4 * MB, "r--p", "/lib/with a blank/libc.so"),
        *shown(0x3000000, 4 * MB, "r--p", "/lib/relocated.so", own=8),
        *shown(0x4000000, 4 * MB, "rw-p", "/lib/data.so"),
        *shown(0x5000000, 4 * MB, "r--s", "/lib/shared.so"),
        *shown(0x6000000, 4 * MB, "r--p", "/lib/weights.bin"),
        *shown(0x7000000, 4 * MB, "r--p", "/dir.so/weights.bin"),
        *shown(0x8000000, 4 * MB, "r-xp", "", inode=0),
        *shown(0x9000000, MB // 2, "r-xp", "/lib/small.so"),
    ]
    assert list(unchanged(lines)) == [Mapping(0x1000000, 4 * MB), Mapping(0x2000000, 4 * MB)]


PROGRAM = """
import re
import numpy as np
from broker.models.tf import library_pages

def resident():
    return sum(int(kb) for kb in re.findall("^Rss: +([0-9]+)", open("/proc/self/smaps").read(), re.M))

x = np.random.default_rng(1).random((200, 200))
wanted, before = np.linalg.inv(x), resident()
assert library_pages.drop() > 1 << 20
assert resident() < before
np.testing.assert_array_equal(np.linalg.inv(x), wanted)
"""


def test_what_was_dropped_comes_back_when_it_is_used() -> None:
    """A process takes less after it, and computes the same."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
