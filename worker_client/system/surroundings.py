"""Where a process of ours finds itself: its working directory, which may be gone, and what it can import."""

from __future__ import annotations

import os
import sys


def directory() -> str | None:
    """The working directory; None if it has been removed, as an old release of an app is while its server runs."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def import_from_here() -> None:
    """Let models be `module:function` of the project that we stand in."""
    here = directory()
    if here is not None:
        sys.path.insert(0, here)


def python_path() -> str:
    """For $PYTHONPATH: what this process can import, one that we start can."""
    here = directory()
    return os.pathsep.join(dict.fromkeys(filter(None, (entry or here for entry in sys.path))))
