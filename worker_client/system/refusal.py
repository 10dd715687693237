"""System calls that a hardened host refuses with a seccomp filter, which returns EPERM or ENOSYS.

An optional call is skipped. For a required call the error names the call and the filter, because the bare error names
neither.
"""

from __future__ import annotations

import errno

from worker_client.wire.errors import BrokerError

_ERRORS = (errno.EPERM, errno.ENOSYS)


def is_refusal(error: OSError) -> bool:
    """Whether the call itself was refused. EACCES and the like are about a file, and the call may succeed with another
    file."""
    return error.errno in _ERRORS


def refused(call: str, purpose: str, error: OSError) -> BrokerError:
    """The error for a required system call that was refused."""
    return BrokerError(
        f"the system call {call} is refused here ({error.strerror}), and {purpose} needs it; allow it in the seccomp "
        f"filter (systemd: SystemCallFilter={call}; containers: the seccomp profile)"
    )
