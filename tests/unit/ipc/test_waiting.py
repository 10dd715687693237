"""Poll or block: what the worker learns from latencies that the test makes up, and what the broker follows."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from time import monotonic_ns

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_client.ipc.waiting import (
    LOST_NS,
    WORTH_POLLING_NS,
    Losses,
    PollBudget,
    PollOrBlock,
    WaitMode,
    poll_giving_way,
    poll_word,
)
from worker_client.system.interruptions import Interruptions

US = 1000
SECOND = 1_000_000_000
CALLS = 2000  # enough to settle


class Always(Interruptions):
    """What is lost is always lost to other threads, or to the host of a virtual machine."""

    __slots__ = ("others",)

    def __init__(self, others: bool) -> None:
        super().__init__()
        self.others = others

    def happened(self, now_ns: int) -> bool:
        return self.others


def losses_to(others: bool = True) -> Losses:
    losses = Losses()
    losses.interruptions = Always(others)
    return losses


World = Callable[[bool], int]
Poll = Callable[[memoryview, int, int, int], int]
POLLS = [poll_word, poll_giving_way]
latencies = st.integers(2 * US, 200 * US)


def world(polling_ns: int, blocking_ns: int) -> World:
    """What a call takes here, if its waiter polls and if it blocks."""
    return lambda polls: polling_ns if polls else blocking_ns


def live(choice: PollOrBlock, here: World, calls: int = CALLS) -> list[bool]:
    """Make `calls` calls, one after the other; for each, whether it polled."""
    polled = []
    now = 10 * SECOND
    for _ in range(calls):
        polled.append(choice.poll_ns > 0)
        latency = here(polled[-1])
        now += latency
        choice.observe(latency, now)
    return polled


def share(polled: list[bool]) -> float:
    return sum(polled) / len(polled)


def trials(polled: list[bool]) -> list[int]:
    """Where in a settled life the minority's calls begin."""
    usual = share(polled) > 0.5
    return [i for i in range(1, len(polled)) if polled[i] is not usual and polled[i - 1] is usual]


@given(latencies, st.integers(2, 20))
def test_polls_where_polling_is_faster(fast: int, factor: int):
    """Where polling is clearly faster, nearly every call polls."""
    choice = PollOrBlock()
    here = world(fast, factor * fast)
    live(choice, here)
    assert share(live(choice, here)) > 0.95


@given(latencies, st.integers(2, 20))
def test_blocks_where_blocking_is_faster(fast: int, factor: int):
    """Where blocking is clearly faster, nearly every call blocks, although it began by polling."""
    choice = PollOrBlock()
    assert choice.poll_ns > 0
    here = world(factor * fast, fast)
    live(choice, here)
    assert share(live(choice, here)) < 0.05


def test_noise_does_not_hide_the_faster_way(rng: np.random.Generator):
    """Where latencies scatter by a third and now and then thousand-fold, most calls still take the faster way."""
    choice = PollOrBlock()

    def noisy(polls: bool) -> int:
        usual = (10 if polls else 45) * US * rng.uniform(0.67, 1.33)
        return int(usual * (1000 if rng.random() < 0.002 else 1))

    live(choice, noisy)
    assert share(live(choice, noisy, 5 * CALLS)) > 0.6


def test_goes_back_when_the_world_changes():
    """When polling becomes the slower way, and when it becomes the faster one again, the choice follows."""
    choice = PollOrBlock()
    quiet, crowded = world(10 * US, 50 * US), world(400 * US, 40 * US)
    for _ in range(3):
        live(choice, quiet, 10 * CALLS)
        assert share(live(choice, quiet)) > 0.9
        live(choice, crowded, 10 * CALLS)
        assert share(live(choice, crowded)) < 0.1


def test_a_sudden_slowness_is_not_waited_out():
    """A latency that more than doubles brings the other way within a few calls, however rare trials have become."""
    choice = PollOrBlock()
    live(choice, world(10 * US, 50 * US), 50_000)
    polled = live(choice, world(400 * US, 40 * US), 32)
    assert not polled[-1]


def test_trials_get_rarer():
    """As long as trials find nothing better, each comes after about twice as many calls as the one before."""
    choice = PollOrBlock()
    begun = trials(live(choice, world(10 * US, 50 * US), 20_000))
    gaps = [after - before for before, after in itertools.pairwise(begun)]
    assert len(gaps) >= 4
    assert all(1.5 < later / earlier < 2.5 for earlier, later in itertools.pairwise(gaps) if later < 8000)


def test_trials_never_end():
    """However settled the choice is, the other way is tried again before ten thousand more calls."""
    choice = PollOrBlock()
    live(choice, world(10 * US, 50 * US), 100_000)
    assert not all(live(choice, world(10 * US, 50 * US), 10_000))


def test_a_pause_brings_the_next_trial_nearer() -> None:
    """After a pause the other way is tried soon, however rare trials had become: the machine may be another."""
    choice = PollOrBlock()
    live(choice, world(60 * US, 15 * US), 50_000)
    choice.observe(15 * US, 3600 * SECOND)
    assert True in live(choice, world(7 * US, 15 * US), 200)


@given(st.lists(st.integers(0, 2000 * US), max_size=400))
def test_never_polls_past_what_it_learnt(observed: list[int]):
    """Whatever it observes, it polls for at most about twice the slowest call so far, and the time of a wake-up: a poll
    in vain stays cheap."""
    choice = PollOrBlock()
    slowest = 20 * US
    for latency in observed:
        choice.observe(latency, 0)
        slowest = max(slowest, latency)
        assert 0 <= choice.poll_ns <= 2 * slowest + 200 * US
        assert choice.poll_ns <= 2 * 4 * WORTH_POLLING_NS + 200 * US


def test_slow_calls_block_for_good():
    """Where a call takes so long that no wake-up can be most of it, no call of a settled worker polls."""
    choice = PollOrBlock()
    here = world(4 * WORTH_POLLING_NS, 4 * WORTH_POLLING_NS)
    live(choice, here)
    assert not any(live(choice, here, 20_000))


@given(st.integers(10 * US, WORTH_POLLING_NS * 3 // 4), st.integers(WORTH_POLLING_NS, 2 * WORTH_POLLING_NS))
def test_slow_wake_ups_do_not_keep_it_from_polling(polled: int, blocked: int):
    """Once it blocks, because a poll lost its processor, a wake-up on a virtual machine may take longer than a call is
    worth polling for: polling is tried again, and kept."""
    choice = PollOrBlock()
    here = world(polled, blocked)
    live(choice, here, 1000)
    choice.lost(SECOND // 100, SECOND)
    choice.observe(blocked, SECOND)
    for _ in range(100):
        choice.observe(blocked, SECOND)
    assert not choice.poll_ns
    choice.observe(blocked, 60 * SECOND)
    live(choice, here, 10_000)
    assert share(live(choice, here)) > 0.95


@given(st.integers(2, 20), st.integers(2, 20), st.booleans())
def test_calls_not_worth_polling_for_block(polled: int, blocked: int, oversubscribed: bool):
    """That holds where polling is the faster way, too, and the first fast calls bring it back."""
    choice = PollOrBlock(oversubscribed=oversubscribed)
    live(choice, world(10 * US, 50 * US))
    worth = WORTH_POLLING_NS * (4 if oversubscribed else 1)
    slow = world(polled * worth, blocked * worth)
    live(choice, slow)
    assert share(live(choice, slow)) < 0.02
    fast = world(10 * US, 50 * US)
    live(choice, fast)
    assert share(live(choice, fast)) > 0.95


@given(st.integers(2 * US, 100 * US), st.floats(1.0, 3.5))
def test_in_a_crowd_polling_may_be_slower(blocked: int, factor: float):
    """Who polls in a crowd saves the others time: it goes on, if to block would be somewhat faster for itself."""
    choice = PollOrBlock(oversubscribed=True)
    here = world(min(int(factor * blocked), WORTH_POLLING_NS), blocked)
    live(choice, here)
    assert share(live(choice, here)) > 0.95


@given(st.integers(2 * US, 100 * US), st.integers(6, 100))
def test_in_a_crowd_that_does_not_give_way_it_blocks(blocked: int, factor: int):
    """Polling that costs many times what blocking does is given up in a crowd, too."""
    choice = PollOrBlock(oversubscribed=True)
    here = world(factor * blocked, blocked)
    live(choice, here)
    assert share(live(choice, here)) < 0.05


def test_a_hopeless_trial_is_short():
    """A trial ends as soon as what it has seen cannot become the better mean any more."""
    choice = PollOrBlock()
    here = world(10 * US, 400 * US)
    tried = [i for i, polls in enumerate(live(choice, here, 50_000)) if not polls]
    assert tried
    assert max(len(list(run)) for _, run in itertools.groupby(i - at for at, i in enumerate(tried))) < 10


@pytest.mark.parametrize(("mode", "polls"), [(WaitMode.POLL, True), (WaitMode.BLOCK, False)])
@pytest.mark.parametrize("here", [world(10 * US, 50 * US), world(900 * US, 10 * US)])
def test_a_fixed_mode_stays_fixed(mode: WaitMode, polls: bool, here: World):
    """`poll` and `block` do not learn, whatever the latencies: benchmarks compare against them."""
    choice = PollOrBlock(mode)
    first = choice.poll_ns
    assert set(live(choice, here)) == {polls}
    assert choice.poll_ns == first


def test_repr_shows_the_choice():
    """Its repr tells the way and the mean latency."""
    choice = PollOrBlock()
    live(choice, world(10 * US, 50 * US))
    assert repr(choice).startswith("<PollOrBlock polling, mean ")


# -- polls that lose their processor -------------------------------------------------------------------------------


def polled_between(choice: PollOrBlock, here: World, start_ns: int, end_ns: int) -> tuple[int, int]:
    """Make calls for so long; how many polled, and how many did not."""
    counted = [0, 0]
    now = start_ns
    while now < end_ns:
        counted[choice.poll_ns == 0] += 1
        latency = here(choice.poll_ns > 0)
        now += latency
        choice.observe(latency, now)
    return counted[0], counted[1]


@given(st.integers(4 * LOST_NS + 1, 9_999 * US), st.booleans())
def test_who_loses_its_processor_blocks_for_a_while(lost_ns: int, oversubscribed: bool):
    """For 8 times what it lost, however fast polling was; then polling is tried again, and kept."""
    choice = PollOrBlock(oversubscribed=oversubscribed, losses=losses_to())
    here = world(10 * US, 50 * US)
    live(choice, here)
    now = 20 * SECOND
    for _ in range(2):
        choice.lost(lost_ns, now)
        choice.observe(lost_ns, now)
    polls, blocks = polled_between(choice, here, now, now + 7 * lost_ns)
    assert polls == 0
    assert blocks > 0
    polls, blocks = polled_between(choice, here, now + 8 * lost_ns, now + 8 * lost_ns + SECOND)
    assert polls > 20 * blocks


def test_losses_in_a_row_double_the_pause():
    """Up to five seconds; once polling has gone well for as long as the pause was, it begins with the first again."""
    losses, now, pauses = losses_to(), 10 * SECOND, []
    losses.add(3_000 * US, now)
    for _ in range(12):
        losses.add(3_000 * US, now)
        pauses.append(losses.until_ns - now)
        now = losses.until_ns + 1
    assert pauses[:4] == [24_000 * US, 48_000 * US, 96_000 * US, 192_000 * US]
    assert pauses[-1] == 5 * SECOND
    later = now + pauses[-1]
    losses.add(3_000 * US, later)
    losses.add(3_000 * US, later)
    assert losses.until_ns - later == 24_000 * US


@given(st.integers(LOST_NS, 9_999 * US), st.integers(21_000 * US, SECOND))
def test_a_loss_now_and_then_is_no_reason_to_block(lost_ns: int, between_ns: int):
    """Threads that run for a moment take any processor now and then; a program that computes takes it again at once."""
    losses = losses_to()
    for number in range(1, 100):
        losses.add(lost_ns, number * between_ns)
        assert losses.until_ns == 0
    losses.add(lost_ns, 99 * between_ns + 19_000 * US)
    assert losses.until_ns > 99 * between_ns


def test_who_yields_to_a_crowd_is_late_now_and_then():
    """The others take their turns, and the broker's: what is a loss to a single poller is none among many."""
    for oversubscribed, lost_ns in ((False, LOST_NS), (True, 4 * LOST_NS)):
        losses = losses_to()
        choice = PollOrBlock(oversubscribed=oversubscribed, losses=losses)
        for late_ns, found in ((lost_ns, 0), (lost_ns + 1, SECOND + 8 * (lost_ns + 1))):
            choice.lost(late_ns, SECOND)
            choice.lost(late_ns, SECOND)
            assert losses.until_ns == found


def test_in_a_crowd_longer_waits_are_worth_polling():
    """With eight workers on two cores an answer may take half a millisecond; those who poll save wake-ups."""
    here = world(3 * WORTH_POLLING_NS, 2 * WORTH_POLLING_NS)
    crowd, alone = PollOrBlock(oversubscribed=True), PollOrBlock()
    live(crowd, here)
    live(alone, here)
    assert share(live(crowd, here)) > 0.95
    assert share(live(alone, here)) < 0.05


def test_polling_that_loses_its_processor_again_and_again_is_rare():
    """Polling is the faster way on average, but one poll in a hundred loses 3 ms: few calls are late all the same."""
    choice = PollOrBlock(losses=losses_to())
    now, late, calls = 10 * SECOND, 0, 0
    while now < 30 * SECOND:
        calls += 1
        polls = choice.poll_ns > 0
        lost = polls and calls % 100 == 0
        latency = 3_000 * US if lost else 10 * US if polls else 50 * US
        now += latency
        if lost:
            late += 1
            choice.lost(latency, now)
        choice.observe(latency, now)
    assert late < calls / 1000


@given(st.integers(LOST_NS, 9_000 * US), st.booleans())
def test_what_the_host_takes_is_no_reason_to_block(lost_ns: int, oversubscribed: bool):
    """Nobody here needed the processor, and a thread that blocks loses it as often."""
    choice = PollOrBlock(oversubscribed=oversubscribed, losses=losses_to(others=False))
    here = world(10 * US, 50 * US)
    live(choice, here)
    choice.lost(lost_ns, 20 * SECOND)
    choice.observe(lost_ns, 20 * SECOND)
    polls, blocks = polled_between(choice, here, 20 * SECOND, 21 * SECOND)
    assert polls > 20 * blocks


@pytest.mark.parametrize("lost_ns", [10_000 * US, SECOND])
def test_a_host_that_limits_the_machine(lost_ns: int):
    """It takes the processor for so long that the machine's time is up, and polling uses it up."""
    losses = losses_to(others=False)
    losses.add(lost_ns, SECOND)
    assert losses.until_ns > SECOND + lost_ns


def test_losses_are_shared():
    """Who waits on the same processors learns from them as well."""
    losses = losses_to()
    alone, oversubscribed = PollOrBlock(losses=losses), PollOrBlock(oversubscribed=True, losses=losses)
    for choice in (alone, oversubscribed):
        live(choice, world(10 * US, 50 * US))
    now = 20 * SECOND
    alone.lost(SECOND, now)
    oversubscribed.observe(10 * US, now + 1)
    assert oversubscribed.poll_ns == 0


def test_pauses_are_for_those_who_choose():
    """`poll` goes on, as benchmarks compare with it; so does a broker."""
    choice, budget = PollOrBlock(WaitMode.POLL), PollBudget(WaitMode.POLL)
    choice.lost(SECOND, SECOND)
    choice.observe(SECOND, SECOND)
    budget.lost(SECOND, SECOND)
    assert choice.poll_ns > 0
    assert budget.losses.until_ns == 0


# -- the broker's side ---------------------------------------------------------------------------------------------


def waited(budget: PollBudget, wait_ns: int, times: int = 100) -> PollBudget:
    for _ in range(times):
        budget.observe(wait_ns)
    return budget


@given(st.integers(0, 200 * US))
def test_the_broker_polls_as_long_as_requests_take_to_come(wait_ns: int):
    """The budget outlasts the usual wait for the next request, by not much more than its double and a wake-up."""
    polls_for = waited(PollBudget(), wait_ns).budget_ns(wanted=True)
    assert wait_ns + 150 * US < polls_for <= 2 * wait_ns + 205 * US


def test_the_broker_blocks_unless_polling_is_wanted():
    """Where the last worker blocks, or there are no cores to spare, the budget is 0."""
    assert waited(PollBudget(), 10 * US).budget_ns(wanted=False) == 0


def test_an_idle_broker_blocks():
    """After waits longer than is worth polling the budget is 0, and comes back when requests do."""
    budget = waited(PollBudget(), SECOND)
    assert budget.budget_ns(wanted=True) == 0
    assert waited(budget, 10 * US).budget_ns(wanted=True) > 10 * US


def test_one_long_pause_is_soon_forgotten():
    """A pause of any length counts as one long wait: after a few dozen quick requests the broker polls again."""
    budget = waited(PollBudget(), 10 * US)
    budget.observe(3600 * SECOND)
    assert waited(budget, 10 * US, 40).budget_ns(wanted=True) > 0


def test_the_brokers_losses():
    """What is usual among those who give way to each other is none."""
    budget = PollBudget()
    budget.losses = losses_to()
    budget.lost(LOST_NS, SECOND)
    assert budget.losses.until_ns == 0
    budget.lost(2 * LOST_NS, SECOND)
    assert budget.losses.until_ns == 0
    budget.lost(2 * LOST_NS, SECOND)
    assert budget.losses.until_ns == SECOND + 16 * LOST_NS


def test_a_clock_that_steps_back_is_no_wait():
    """A negative wait counts as none."""
    assert waited(PollBudget(), -SECOND).budget_ns(wanted=True) >= 0


@pytest.mark.parametrize("wanted", [True, False])
def test_the_brokers_fixed_modes(wanted: bool):
    """`poll` polls and `block` blocks whatever the worker does and however long the waits are."""
    assert waited(PollBudget(WaitMode.POLL), SECOND).budget_ns(wanted) >= SECOND
    assert waited(PollBudget(WaitMode.BLOCK), 1).budget_ns(wanted) == 0


# -- polling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("poll", POLLS)
def test_a_poll_ends_with_the_word(poll: Poll):
    """A poll is 0 when another thread stores the value, and looks at that word only."""
    words = memoryview(bytearray(64)).cast("Q")
    looking = threading.Event()
    found: list[int] = []

    def look() -> None:
        looking.set()
        found.append(poll(words, 3, 7, monotonic_ns() + 100 * SECOND))

    poller = threading.Thread(target=look)
    poller.start()
    looking.wait()
    words[2] = words[4] = 7
    words[3] = 6
    words[3] = 7
    poller.join()
    assert found == [0]


@pytest.mark.parametrize("poll", POLLS)
def test_a_poll_ends_with_its_limit(poll: Poll):
    """A poll tells the time once the monotonic clock has passed the limit."""
    limit = monotonic_ns() + US
    assert poll(memoryview(bytearray(8)).cast("Q"), 0, 7, limit) >= limit
    assert monotonic_ns() >= limit


@pytest.mark.parametrize("poll", POLLS)
def test_a_poll_looks_at_least_once(poll: Poll):
    """A value that is there is seen even where the limit has passed."""
    words = memoryview(bytearray(8)).cast("Q")
    words[0] = 7
    assert not poll(words, 0, 7, 0)
