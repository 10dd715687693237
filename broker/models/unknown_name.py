"""Messages for names that do not exist, with the closest known name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from worker_client.wire.errors import InvalidInput


def remedy(name: object, known: Sequence[str]) -> str:
    """`did you mean 'slots'?`, or the list of all known names."""
    close = difflib.get_close_matches(str(name), known, 1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"


def check_names(what: str, names: Iterable[Any], known: Sequence[str]) -> None:
    """Raise InvalidInput for the first of `names` that is not `known`; `what` is their owner, such as "
    ""model 'a'"."""
    for name in names:
        if name not in known:
            raise InvalidInput(f"{what} has no setting {name!r}; {remedy(name, known)}")
