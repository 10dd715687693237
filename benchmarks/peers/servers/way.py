"""A way to call the server of a module of this package."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from benchmarks.peers.other_system import SystemSetting, Way
from benchmarks.peers.place import ServerPlace

Call = Callable[[np.ndarray], np.ndarray]
Connect = Callable[[ServerPlace], AbstractContextManager[Call]]


def way(name: str, label: str, connect: Connect) -> Way:
    """`connect` is of the module that has `serve`."""

    def options(setting: SystemSetting, threads: int) -> dict[str, Any]:
        return {
            "module": connect.__module__,
            "connect": connect.__name__,
            "directory": setting.directory,
            "path": setting.model,
            "threads": threads,
        }

    return Way(name, label, "benchmarks.peers.server_arm:server_arm", options)
