"""Sets which GPUs TensorFlow sees in this process. TensorFlow looks for them only once, when it is first used."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from worker_client.wire.errors import InvalidInput

VARIABLE = "CUDA_VISIBLE_DEVICES"
NONE = "none"
_DEVICE_FILES = ("nvidia*", "dxg", "kfd")
"""Devices in /dev of NVIDIA's driver, of Windows' driver under WSL, and of AMD's driver."""


def has_gpu() -> bool:
    """Whether a GPU's driver is loaded and this process may see its devices."""
    if os.environ.get(VARIABLE) in ("", "-1"):
        return False
    return any(True for pattern in _DEVICE_FILES for _ in Path("/dev").glob(pattern))


def show_only(devices: str | None) -> None:
    """Show TensorFlow only these GPUs (`0,1`, or `none`), as far as the environment allows; None changes nothing.

    Raises InvalidInput if TensorFlow is imported already.
    """
    if devices is None:
        return
    wanted = "-1" if devices.strip() in ("", NONE) else devices.replace(" ", "")
    if os.environ.get(VARIABLE) == wanted:
        return
    if "tensorflow" in sys.modules:
        raise InvalidInput(
            f"visible_devices={devices!r} comes too late: this process has imported TensorFlow already; set "
            f"{VARIABLE} before that"
        )
    os.environ[VARIABLE] = wanted
