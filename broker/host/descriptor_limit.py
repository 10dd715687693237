"""How many descriptors the broker's process may have: each worker takes some, and the usual 1,024 are so few for the
sake of programs that use select(2), which it does not."""

from __future__ import annotations

import contextlib
import resource


def raise_descriptors() -> None:
    """Take as many as the hard limit allows. For a process that is the broker's alone."""
    # The limit may be above what the kernel gives (fs.nr_open), or a filter of system calls refuse it.
    with contextlib.suppress(ValueError, OSError):
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
