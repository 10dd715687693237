"""Describes the machine on which figures were measured."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from broker.host.processors import cores, info


def describe() -> dict[str, Any]:
    return {
        "cpu": info().get("model name", platform.machine()),
        "cores": cores(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "onesession": _version("onesession"),
        "tensorflow": _version("tensorflow", "tensorflow-cpu"),
        "numpy": _version("numpy"),
    }


def _version(*names: str) -> str | None:
    """The version of the first installed one of these distributions, without importing it."""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
