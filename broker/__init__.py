"""The broker: one process that holds the only TensorFlow session and serves forked workers through shared memory.

with broker.Broker(models={"digits": "models/digits"}):
    ...
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from broker import adopt
    from broker.api import Broker
    from broker.config.settings import Settings
    from broker.models.python.function import signature
    from broker.models.spec import ModelSpec
    from worker_client.wire.version import __version__

__all__ = ["Broker", "ModelSpec", "Settings", "__version__", "adopt", "signature"]

_PLACES = {
    "Broker": "broker.api",
    "ModelSpec": "broker.models.spec",
    "Settings": "broker.config.settings",
    "__version__": "worker_client.wire.version",
    "signature": "broker.models.python.function",
}


def __getattr__(name: str) -> Any:
    """Import names when they are first used: `python -m broker` imports this module before it can react to Ctrl-C."""
    if name == "adopt":
        return importlib.import_module("broker.adopt")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "Broker":
        from worker_client.system.linux import check_linux

        check_linux("A broker")
    found = globals()[name] = getattr(importlib.import_module(_PLACES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
