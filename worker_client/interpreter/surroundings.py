"""The surroundings of a process: its working directory, which may be gone, and the modules that it can import."""

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
    """Let models be `module:function` of the project in the working directory."""
    here = directory()
    if here is not None:
        sys.path.insert(0, here)


def program(statement: str) -> str:
    """A program for `python -c` that runs a statement which imports from our packages.

    Our packages are imported from the place from which this process has them, even if the working directory or
    $PYTHONPATH has others: an app may have a `broker.py` of its own. The order of the app's own modules is kept.
    """
    package = sys.modules[__name__.partition(".")[0]]
    ours = os.path.abspath(os.path.join(package.__path__[0], os.pardir))
    return (
        f"import sys; sys.path.insert(0, {ours!r}); import broker, worker_client; sys.path.remove({ours!r}); "
        f"{statement}"
    )


def python_path() -> str:
    """A value for $PYTHONPATH with which a process that we start can import what this process can."""
    here = directory()
    return os.pathsep.join(dict.fromkeys(filter(None, (entry or here for entry in sys.path))))
