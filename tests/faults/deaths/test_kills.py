"""A short campaign of `python -m tests.stress` (make stress), the same for one seed; and that it would find a fault."""

from __future__ import annotations

import pytest

from tests.stress.campaign import Report, run
from tests.stress.chaos import Chaos
from tests.stress.crew import Crew, crew

KILLS = {"plain": 10, "gunicorn": 5, "hung": 3}
WORKERS = 3
LIMIT_S = 400  # longer than the campaign's own patience, which ends with the tracebacks of what hangs


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("kind", list(KILLS))
def test_random_kills_cost_no_answer(kind: str, seed: int) -> None:
    """Workers and their broker are killed, suspended and restarted at random under load: every answer is right for its
    own input, nothing hangs, no call gets an unexpected error, and nothing is left on the machine."""
    report: Report = run(KILLS[kind], seed, (kind,), WORKERS)
    assert report.kills >= KILLS[kind]
    assert report.ends["answered"] > 0


def test_a_swapped_answer_is_found(seed: int, capfd: pytest.CaptureFixture[str]) -> None:
    """A broker that sometimes gives one request the answer to another does not pass a campaign. A child that a worker
    has forked may find it: it prints both answers."""
    with (
        crew(WORKERS, str(seed), {"tell": "tests.stress.wrong:swapping"}) as stage,
        pytest.raises(AssertionError) as caught,
    ):
        _strike_on(stage, seed)
    assert "in place of" in f"{caught.value} {capfd.readouterr().err}"


def _strike_on(stage: Crew, seed: int) -> None:
    chaos = Chaos(stage, str(seed))
    while chaos.kills < 1000:
        chaos.strike()
        stage.check()
