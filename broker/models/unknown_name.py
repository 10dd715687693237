"""A name that does not exist: the message that helps, wherever it was written."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from worker_client.wire.errors import InvalidInput


def remedy(name: object, known: Sequence[str]) -> str:
    """`did you mean 'slots'?`, or all that there is."""
    close = difflib.get_close_matches(str(name), known, 1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"


def check_names(what: str, names: Iterable[Any], known: Sequence[str]) -> None:
    """Raises InvalidInput for the first of `names` that is not `known`; `what` has them, as in "model 'a'"."""
    for name in names:
        if name not in known:
            raise InvalidInput(f"{what} has no setting {name!r}; {remedy(name, known)}")
