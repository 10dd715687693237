"""System calls that a hardened host refuses: by a seccomp filter, which answers EPERM or ENOSYS.

What is optional is done without. What is needed is named, since the error by itself says neither which call it was nor
who refused it.
"""

from __future__ import annotations

import errno

from worker_client.wire.errors import BrokerError

_ERRORS = (errno.EPERM, errno.ENOSYS)


def is_refusal(error: OSError) -> bool:
    """Of the call as such. EACCES and the like are about a file, and another file may do."""
    return error.errno in _ERRORS


def refused(call: str, purpose: str, error: OSError) -> BrokerError:
    """The error for a call that cannot be done without."""
    return BrokerError(
        f"the system call {call} is refused here ({error.strerror}), and {purpose} needs it; allow it in the seccomp "
        f"filter (systemd: SystemCallFilter={call}; containers: the seccomp profile)"
    )
