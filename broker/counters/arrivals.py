"""How many workers came and went."""

from __future__ import annotations


class Arrivals:
    """The control thread counts, any thread reads."""

    def __init__(self) -> None:
        self.attached = 0
        self.reattached = 0  # of them by processes that had lost a broker, or their connection
        self.detached = 0
