"""`inline:NAME=SOURCE,...` in place of a broker's address."""

from __future__ import annotations

import os
from typing import Any

from worker_client.wire.address import INLINE, VARIABLE

EXAMPLE = "inline:digits=models/digits"


def of(address: str | os.PathLike[str] | None) -> str | None:
    """The address, or that of $BROKER_ADDRESS, if it stands for models in this process."""
    given: Any = address or os.environ.get(VARIABLE)
    return given if isinstance(given, str) and given.startswith(INLINE) else None


def parts(text: str) -> tuple[str, ...]:
    """Each model as it is written there: NAME=SOURCE, or a source that gives the name."""
    return tuple(part.strip() for part in text.removeprefix(INLINE).split(",") if part.strip())
