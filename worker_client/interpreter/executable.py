"""Finds the Python interpreter to start processes with.

`sys.executable` is the program that runs, which need not be a Python: under uWSGI it is uwsgi, in a program that embeds
Python it is that program, and it may be empty.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator

from worker_client.wire.errors import BrokerError

_NAME = re.compile(r"(python|pypy)[\d.]*\w?(-\w+)?")
_SECONDS = 20.0
_WHICH = "import sys; print(sys.implementation.cache_tag, sys.prefix)"


@functools.cache
def python() -> str:
    """The path of a Python like the one that runs this. Raises BrokerError."""
    own = sys.executable or ""
    if _is_named_so(own) and not getattr(sys, "frozen", False):
        return own
    tried = list(dict.fromkeys(_candidates()))
    for path in tried:
        if os.access(path, os.X_OK) and _is_like_ours(path):
            return path
    raise BrokerError(
        f"no Python {_version()} to start the broker's process with: this program is {own or 'unknown'}, and none of "
        f"{', '.join(tried)} is one. Start the broker beside it: onesession run --model NAME=PATH -- COMMAND"
    )


def _is_named_so(path: str) -> bool:
    return bool(_NAME.fullmatch(os.path.basename(path)))


def _candidates() -> Iterator[str]:
    """Possible paths: interpreters of the environment before those from which it was made."""
    base: str = getattr(sys, "_base_executable", None) or ""
    folders = [os.path.join(prefix, "bin") for prefix in (sys.prefix, sys.exec_prefix)]
    if os.path.isabs(base) and _is_named_so(base):
        yield base
    for folder in (*folders, sysconfig.get_config_var("BINDIR") or "", os.path.join(sys.base_prefix, "bin")):
        for name in (f"python{_version()}", "python3", "python"):
            if folder:
                yield os.path.join(folder, name)


def _version() -> str:
    return "{}.{}".format(*sys.version_info)


def _is_like_ours(path: str) -> bool:
    """Whether it is the same version with the same packages. `python_path` passes on what else this process can
    import."""
    try:
        done = subprocess.run(
            [path, "-c", _WHICH], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return False
    tag, _, prefix = os.fsdecode(done.stdout).strip().partition(" ")
    return tag == sys.implementation.cache_tag and prefix in (sys.prefix, sys.base_prefix)
