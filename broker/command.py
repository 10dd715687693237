"""The commands `onesession` and `broker`, which are one program: what runs before anything is imported of an extra."""

from __future__ import annotations

import signal
import sys

from worker_client.wire.version import __version__

_OF_EXTRAS = {"click", "rich", "prometheus_client", "tomli", "tomlkit"}


def main() -> None:
    """Run it with the arguments of this process. Exits with its status."""
    try:
        _run()
    except KeyboardInterrupt:  # while it was still being imported
        sys.exit(128 + signal.SIGINT)


def _run() -> None:
    if sys.argv[1:] == ["--version"]:
        print(f"onesession, version {__version__}")  # noqa: T201 - click comes with an extra; knows a closed stdout
        return
    try:
        from broker.cli import main as program
    except ModuleNotFoundError as error:
        if error.name not in _OF_EXTRAS:
            raise
        sys.exit(
            f"Error: this command needs {error.name}, which is not installed: pip install 'onesession[tensorflow]' (or "
            "[tensorflow-cpu], or [broker] where no model needs TensorFlow)"
        )
    program()
