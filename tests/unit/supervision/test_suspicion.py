"""Which model is suspected of ending the broker's process. All on a clock that stands still."""

from __future__ import annotations

from broker.supervision.suspicion import DEATHS, WITHIN_SECONDS, Suspicion


def test_three_deaths_within_a_minute_set_a_model_aside() -> None:
    """The third time a process ends while one and the same model runs, that one is named."""
    suspicion = Suspicion()
    assert [suspicion.died(now, ["poison"]) for now in (0, 20, 40)] == [None, None, "poison"]


def test_deaths_that_lie_further_apart_set_nothing_aside() -> None:
    """Three in more than a minute are bad luck, or a machine short of memory."""
    suspicion = Suspicion()
    assert [suspicion.died(0.6 * WITHIN_SECONDS * time, ["m"]) for time in range(6)] == [None] * 6


def test_a_model_that_ran_beside_it_is_not_taken_for_it() -> None:
    """While two have been there each time, nobody is set aside; one death alone tells which."""
    suspicion = Suspicion()
    assert [suspicion.died(now, ["innocent", "poison"]) for now in range(DEATHS + 2)] == [None] * (DEATHS + 2)
    assert suspicion.died(10, ["poison"]) == "poison"


def test_deaths_with_nothing_running_accuse_nobody() -> None:
    """A process that is killed while it is idle has no suspects."""
    suspicion = Suspicion()
    assert [suspicion.died(now, []) for now in range(5)] == [None] * 5
    assert suspicion.suspects(5) == ()


def test_suspects_are_those_of_the_last_minute() -> None:
    """Whatever ran at a death is watched for a minute."""
    suspicion = Suspicion()
    suspicion.died(0, ["b", "a"])
    assert suspicion.suspects(WITHIN_SECONDS - 1) == ("a", "b")
    assert suspicion.suspects(WITHIN_SECONDS) == ()


def test_a_model_that_is_set_aside_is_forgotten() -> None:
    """Brought back, it has three deaths before it again."""
    suspicion = Suspicion()
    for now in range(DEATHS):
        suspicion.died(now, ["poison"])
    assert suspicion.suspects(DEATHS) == ()
    assert suspicion.died(DEATHS, ["poison"]) is None
