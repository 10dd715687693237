"""The folder in which a user's brokers cache results that save time at the next start. All of it may be deleted."""

from __future__ import annotations

import os
from pathlib import Path

_NO_HOME = Path("/nonexistent")
"""The home of users who have none, by the custom of Debian: nothing is cached there."""


def cache_folder(name: str) -> Path:
    """The path `$XDG_CACHE_HOME/onesession/NAME`; the folder is not created here."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore a relative path.
    cache = Path(base) if os.path.isabs(base) else Path(os.path.expanduser("~/.cache"))
    if (
        not cache.is_absolute()
    ):  # "~" stays "~" where nobody says what it is, and would be made in whichever folder we are
        cache = _NO_HOME / ".cache"
    return cache / "onesession" / name
