"""Where a user's brokers keep what spares time at the next start, and nothing else: all of it may be deleted."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """`$XDG_CACHE_HOME/onesession/NAME`, not made here."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path counts as none.
    cache = Path(base) if os.path.isabs(base) else Path(os.path.expanduser("~/.cache"))
    return cache / "onesession" / name
