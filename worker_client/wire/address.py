"""Where a broker is found: one rule for broker, workers and command line.

A name such as `default` stands for the socket NAME.sock in the runtime directory: $XDG_RUNTIME_DIR/onesession, else
/tmp/onesession-UID. Anything with a slash is the path of the socket itself.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from worker_client.wire.errors import BrokerError, BrokerUnavailable

VARIABLE = "BROKER_ADDRESS"
DEFAULT = "default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LONGEST_PATH = 100  # sun_path holds 108 bytes; the lock file adds to it


def runtime_directory() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.path.isabs(base) and os.path.isdir(base):
        return Path(base, "onesession")
    return Path("/tmp", f"onesession-{os.geteuid()}")


def socket_path(address: str | os.PathLike[str] | None = None) -> Path:
    """The socket of the broker at `address`: a name, a path, or None for $BROKER_ADDRESS, else "default"."""
    text = os.fspath(address) if address else os.environ.get(VARIABLE) or DEFAULT
    if "/" in text:
        path = Path(text).absolute()
    elif _NAME.fullmatch(text):
        path = runtime_directory() / f"{text}.sock"
    else:
        raise BrokerError(
            f"{text!r} is no broker address: give a name (letters, digits, . _ -) or the path of a socket"
        )
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise BrokerError(
            f"socket path {path} is longer than {_LONGEST_PATH} bytes; choose a shorter directory"
        )
    return path


def name_prefix(path: Path) -> str:
    """The start of every IPC name of the broker at this socket; no other broker's names start so."""
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    return f"/onesession.{digest}."


def unavailable(path: Path, why: str) -> BrokerUnavailable:
    """The error that says which broker does not answer, why, and how to start one."""
    return BrokerUnavailable(
        f"no broker answers at {path} ({why}). Start one with `broker serve --model NAME=PATH`, run your server "
        f"under `broker run --model NAME=PATH -- COMMAND`, or point {VARIABLE} at the right one"
    )
