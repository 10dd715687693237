"""Which workers may poll: by how many call, what else computes, and what a quota leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.scheduling.polling import Leave, Reason, leave
from worker_client.wire.layout import POLL_FREELY, POLL_GIVING_WAY, POLL_NOT


@pytest.mark.parametrize(
    ("active", "cores", "busy", "others", "quota", "found"),
    [
        (1, 2, True, 0.0, None, Leave(POLL_FREELY, Reason.QUIET)),
        (2, 2, True, 0.0, None, Leave(POLL_GIVING_WAY, Reason.CROWD)),
        (2, 2, False, 0.0, None, Leave(POLL_FREELY, Reason.QUIET)),
        (3, 2, True, 0.0, None, Leave(POLL_GIVING_WAY, Reason.CROWD)),
        (3, 2, False, 0.0, None, Leave(POLL_NOT, Reason.PAUSES)),
        (1, 2, True, 0.9, None, Leave(POLL_NOT, Reason.OTHERS)),
        (2, 4, True, 1.0, None, Leave(POLL_FREELY, Reason.QUIET)),
        (3, 4, True, 1.0, None, Leave(POLL_NOT, Reason.OTHERS)),
        (8, 2, True, 0.6, None, Leave(POLL_NOT, Reason.OTHERS)),
        (1, 2, True, 0.0, 1.5, Leave(POLL_NOT, Reason.QUOTA)),
        (1, 64, True, 0.0, 2.0, Leave(POLL_FREELY, Reason.QUIET)),
        (2, 64, True, 0.0, 2.0, Leave(POLL_NOT, Reason.QUOTA)),
        (8, 2, True, 0.0, 4.0, Leave(POLL_GIVING_WAY, Reason.CROWD)),
    ],
)
def test_leave(active: int, cores: int, busy: bool, others: float, quota: float | None, found: Leave) -> None:
    """Up to a worker for each core, but yielding if a busy intake needs one. Where others compute, or a quota has to
    last, the intake's core counts."""
    assert leave(active, cores, busy=busy, others=others, quota=quota) == found


@given(st.integers(1, 200), st.integers(1, 64), st.booleans(), st.floats(0.5, 64), st.floats(0.1, 64))
def test_nobody_polls_away_what_others_need(
    active: int, cores: int, busy: bool, others: float, quota: float
) -> None:
    """With neighbours, pollers and intake together have no more than the cores that are left, and the quota's."""
    if leave(active, cores, busy=busy, others=others, quota=quota).how != POLL_NOT:
        assert active + 1 <= cores - others
        assert active + 1 <= quota or quota >= cores
