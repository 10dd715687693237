"""Sets the name that `ps`, `htop` and `systemd-cgls` show for our processes, which are started with `python -c`.

With the package setproctitle, `onesession: broker default [digits, mean]`; without it, the kernel's short name of the
process is `onesession`, which `top`, `pgrep onesession` and `ps -o comm` show.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

from broker.config.settings import Settings
from worker_client.wire.address import runtime_directory

_PR_SET_NAME = 15
_MOST_MODELS = 8


def entitle(role: str, settings: Settings) -> None:
    """Name this process after its role, its broker and the models. Called on the main thread only."""
    try:
        from setproctitle import setproctitle
    except ImportError:
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).prctl(_PR_SET_NAME, b"onesession", 0, 0, 0)
        return
    setproctitle(title(role, settings))


def title(role: str, settings: Settings) -> str:
    names = [spec.name for spec in settings.models]
    more = f", and {len(names) - _MOST_MODELS} more" if len(names) > _MOST_MODELS else ""
    return f"onesession: {role} {_name(settings.address)} [{', '.join(names[:_MOST_MODELS])}{more}]"


def _name(address: str) -> str:
    """The broker's name as `--name` takes it."""
    path = Path(address)
    ours = path.parent == runtime_directory() and path.suffix == ".sock"
    name = path.stem if ours else address
    return name.encode(errors="replace").decode()  # a path need not be UTF-8
