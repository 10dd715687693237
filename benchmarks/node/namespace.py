"""A network namespace: an engine that listens on all interfaces can be reached by no other host there."""

from __future__ import annotations

import os
import shutil
import subprocess

COMMAND = (
    *("unshare", "--net", *(() if os.geteuid() == 0 else ("--map-root-user",))),
    *("sh", "-c", 'ip link set lo up && exec "$@"', "sh"),
)
"""Before what is to run in one of its own, which has a loopback interface and no other."""


def obstacle() -> str:
    """Why none can be made here; empty if it can."""
    if not shutil.which("ip"):
        return (
            "no network namespace can be made here: there is no program `ip` (Debian: apt install iproute2)"
        )
    done = subprocess.run([*COMMAND, "true"], check=False, capture_output=True, text=True)
    return f"no network namespace can be made here: {done.stderr.strip()}" if done.returncode else ""
