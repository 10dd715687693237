"""Checks the installed packages and the tuning records."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
from pathlib import Path

from broker.doctor.finding import Finding, ok, problem, warning
from broker.doctor.target import Target
from broker.tuning import machine
from broker.tuning.records import FORMAT, default_folder
from broker.tuning.verdicts import MARK

_NAMED = 3
_NEEDED = {"numpy": (1, 26), "posix_ipc": (1, 2), "msgpack": (1, 1, 0)}


def packages(found: dict[str, str | None]) -> Finding:
    """Judge the versions of the packages that worker and broker need; None for a missing one."""
    text = ", ".join(
        [f"Python {platform.python_version()}", *(f"{name} {found[name] or 'missing'}" for name in found)]
    )
    wrong = [
        f"{name}>={'.'.join(map(str, least))}"
        for name, least in _NEEDED.items()
        if _parsed(found.get(name)) < least
    ]
    if wrong:
        return problem("packages", text, f"pip install {' '.join(repr(each) for each in wrong)}")
    return ok("packages", text)


def check_packages(_target: Target) -> Finding:
    return packages({name: _version(name) for name in ("onesession", *_NEEDED)})


def check_tensorflow(_target: Target) -> Finding:
    """Find TensorFlow without importing it, which would take seconds and hundreds of megabytes."""
    check = "TensorFlow for the broker"
    if importlib.util.find_spec("tensorflow") is None:
        return warning(
            check,
            "not installed here: SavedModels cannot be served, Python functions can",
            "pip install 'onesession[tensorflow]' (or [tensorflow-cpu]) where the broker runs",
        )
    return ok(check, machine.tensorflow_version() or "installed, version unknown")


def records(folder: Path) -> Finding:
    """Judge whether tuning can remember its measurements."""
    check = "tuning records"
    files = list(folder.glob("*.json")) if folder.is_dir() else []
    broken = sorted(path.name for path in files if not _readable(path))
    above = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    if not os.access(above, os.W_OK | os.X_OK):
        return warning(
            check,
            f"{folder} may not be written by uid {os.geteuid()}: every start measures again",
            "point XDG_CACHE_HOME at a directory that lasts (CacheDirectory= in a unit, a volume in a "
            "container)",
        )
    if broken:
        return warning(
            check,
            f"{len(broken)} of {len(files)} in {folder} unreadable: {', '.join(broken[:_NAMED])}"
            f"{', ...' if len(broken) > _NAMED else ''}",
            "remove these files; their models are measured again",
        )
    return ok(check, f"{len(files)} in {folder}")


def check_records(_target: Target) -> Finding:
    return records(default_folder())


def _readable(path: Path) -> bool:
    try:
        message = json.loads(path.read_text(encoding="utf-8"))
        return isinstance(message["apart"], str) if MARK in path.name else bool(message["format"] == FORMAT)
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _parsed(version: str | None) -> tuple[int, ...]:
    parts = (version or "").split(".")
    return tuple(int(part) for part in parts[:3] if part.isdigit())
