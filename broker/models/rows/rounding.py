"""Whether rounding alone explains that two runs gave different answers to the same request."""

from __future__ import annotations

import numpy as np

from broker.models.examples import Feeds
from broker.models.model import Run
from broker.models.rows.closeness import Outputs, difference, same
from broker.models.rows.trial_rows import shaken


def rounding_explains(run: Run, feeds: Feeds, mine: Outputs, found: Outputs, seed: int = 0) -> bool:
    """Whether `mine`, the answer to one request, may differ from `found` because of rounding alone: then the answer to
    a request that differs in its last bits differs as much. Raises the exceptions of `run`."""
    if not any(feed.dtype.kind in "fcV" for feed in feeds):
        return False
    rng = np.random.default_rng(seed)
    moved = [0.0] * len(mine)
    for _ in range(3):
        for number, (output, before) in enumerate(zip(run(*shaken(feeds, rng)), mine)):
            if output.shape != before.shape:
                return False
            moved[number] = max(moved[number], difference(output, before))
    return all(
        difference(one, other) <= 10 * far
        for one, other, far in zip(mine, found, moved)
        if not same(one, other)
    )
