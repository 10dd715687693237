"""Raises the descriptor limit of the broker's process: each worker needs some. The usual limit of 1,024 protects
programs that use select(2), which the broker does not use."""

from __future__ import annotations

import contextlib
import resource


def raise_descriptors() -> None:
    """Raise the soft limit to the hard limit. For a process that belongs to the broker alone."""
    # The limit may exceed the kernel's maximum (fs.nr_open), or a filter of system calls may refuse it.
    with contextlib.suppress(ValueError, OSError):
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
