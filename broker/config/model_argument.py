"""A model as the argument of a command: `[NAME=]SOURCE`."""

from __future__ import annotations

import re
from pathlib import Path

from broker.models.spec import ModelSpec


def spec_of(text: str) -> ModelSpec:
    """NAME=SOURCE, or a SOURCE whose directory gives the name. Raises InvalidInput."""
    if "=" in text and not Path(text).expanduser().exists():
        return ModelSpec.parse(text)
    path = Path(text).expanduser().resolve()
    name = path.parent.name if path.name.isdecimal() else path.name
    return ModelSpec(re.sub(r"[^A-Za-z0-9_.\-]|^[.\-]+", "_", name) or "model", text)
