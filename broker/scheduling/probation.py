"""After a death of the broker's process: models that ran then run one request at a time, and no two of them at once.

So if one of them ends the process again, what ran then is known to be what does it, and the others' calls are not taken
for guilty. It ends after a minute; a request that ends the process is sent again long before that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from worker_client.system.clock import monotonic_ns

_SECONDS = 60.0


class Probation:
    """Any thread. `active` is all that the others' requests pay for it."""

    def __init__(self, models: Iterable[str] = ()) -> None:
        self._models = set(models)
        self._until_ns = monotonic_ns() + int(_SECONDS * 1e9)
        self.active = bool(self._models)
        self.turn = threading.Lock()
        """Held around each run of one of the models."""

    def __repr__(self) -> str:
        return f"<Probation of {', '.join(sorted(self._models)) or 'nobody'}>"

    def holds(self, model: str) -> bool:
        return self.active and model in self._models

    def begin(self, model: str) -> None:
        """This one, too, for a minute from now."""
        self._models = self._models | {model}
        self._until_ns = monotonic_ns() + int(_SECONDS * 1e9)
        self.active = True

    def update(self, now_ns: int) -> None:
        """See whether it is over."""
        if self.active and now_ns >= self._until_ns:
            self.active = False
            self._models = set()
