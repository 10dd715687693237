"""Modules: whether one can be imported here; one of this package run in a process of its own."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Mapping

from benchmarks.harness.arm import ArmFailed
from benchmarks.machine import ROOT

TIMEOUT_S = 600.0


def missing(module: str, requirement: str) -> str | None:
    """Why this module cannot be imported here, if so, and what to install."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        return f"{error} (pip install {requirement})"
    return None


def run_module(task: str, module: str, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """`python -m module arguments`, with `env` beside this process's environment: what it wrote to stdout.

    Raises ArmFailed, with what it wrote to stderr: "could not {task}".
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ArmFailed(f"could not {task} within {TIMEOUT_S:g} s") from None
    if done.returncode:
        raise ArmFailed(f"could not {task}:\n{done.stderr.strip()}")
    return done.stdout
