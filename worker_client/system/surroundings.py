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


def program(statement: str) -> str:
    """For `python -c`: run a statement that imports from our packages.

    They come from where this process has them, whatever stands first in the working directory or in $PYTHONPATH: an app
    may well have a `broker.py` of its own. Its own modules come in the order that it has given them.
    """
    package = sys.modules[__name__.partition(".")[0]]
    ours = os.path.abspath(os.path.join(package.__path__[0], os.pardir))
    return (
        f"import sys; sys.path.insert(0, {ours!r}); import broker, worker_client; sys.path.remove({ours!r}); "
        f"{statement}"
    )


def python_path() -> str:
    """For $PYTHONPATH: what this process can import, one that we start can."""
    here = directory()
    return os.pathsep.join(dict.fromkeys(filter(None, (entry or here for entry in sys.path))))
