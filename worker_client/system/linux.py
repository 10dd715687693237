"""What a broker and its workers share is Linux's: memfd, /dev/shm, shared semaphores. Elsewhere one line says so."""

from __future__ import annotations

import sys

from worker_client.wire.errors import BrokerUnavailable

_NAMES = {"darwin": "macOS", "win32": "Windows"}


def check_linux(what: str) -> None:
    """Raises BrokerUnavailable where `what` cannot be."""
    if sys.platform == "linux":
        return
    raise BrokerUnavailable(
        f"{what} needs Linux (memfd and /dev/shm), and this is {_NAMES.get(sys.platform, sys.platform)}: to develop "
        "and test here use models in this process, connect('inline:digits=models/digits') or "
        "BROKER_ADDRESS=inline:digits=models/digits (docs/testing.md); to serve use WSL2 or a Linux container"
    )
