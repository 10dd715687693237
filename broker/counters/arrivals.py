"""How many workers attached and left."""

from __future__ import annotations


class Arrivals:
    """Counts of workers. The control thread writes them, any thread may read them."""

    def __init__(self) -> None:
        self.attached = 0
        self.reattached = 0  # those that had lost a broker, or their connection
        self.detached = 0
