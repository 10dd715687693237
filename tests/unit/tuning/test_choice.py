"""The rule by which a setting is taken from a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.tuning.choice import BUSY_NOISE, NEARLY_ALL, batch_size, choose, choose_onednn, no_worse
from broker.tuning.setting import RunSetting, Sample, SampleTable
from tests.unit.tuning.tables import DEFAULT, setting, table

DEFAULT_TEXT = "2x1 pool on"

MOBILENET = table(
    {
        DEFAULT_TEXT: (9900, [93, 166, 188]),
        "1x1 caller on": (7700, [130, 140, 142]),
        "1x2 caller on": (7700, [247, 233, 227]),
        "2x2 caller on": (11600, [101, 157, 214]),
        "1x2 caller off": (10100, [192, 181, 113]),
    }
)
MLP = table(
    {
        DEFAULT_TEXT: (19, [33_000, 36_000, 97_000]),
        "1x1 caller on": (10.3, [83_000, 354_000, 635_000]),
        "1x1 caller off": (6.3, [150_000, 479_000, 932_000]),
        "2x1 caller off": (6.3, [151_000, 480_000, 930_000]),
    }
)


def taken(found: SampleTable, onednn: bool = True, busy: bool = False) -> RunSetting:
    choice = choose(found, onednn, busy=busy)
    assert choice is not None
    return choice.setting


def test_the_most_rows_per_second_of_what_is_no_slower_by_itself():
    """A large convolution: two runs of one thread each, and no batches, since they gain nothing."""
    choice = choose(MOBILENET, True)
    assert choice is not None
    assert choice.setting == setting("1x2 caller on")
    assert choice.batch_size == 1
    assert choice.gain == pytest.approx(247 / 188)


def test_of_equals_the_fewest_threads():
    """A small model: nothing is gained by a second thread, so it gets none."""
    assert taken(MLP, onednn=False) == setting("1x1 caller off")


def test_what_is_slower_for_a_single_request_is_not_taken():
    """Rows per second do not buy a slower answer to one request."""
    found = table({DEFAULT_TEXT: (5000, [200, 250, 260]), "1x2 caller on": (9000, [220, 400, 500])})
    assert taken(found) == DEFAULT


def test_what_is_slower_at_some_batch_size_is_not_taken():
    """Nor does the best batch size make good for another that is worse than before."""
    found = table({DEFAULT_TEXT: (5000, [200, 250, 260]), "1x2 caller on": (5000, [200, 150, 500])})
    assert taken(found) == DEFAULT


def test_what_is_better_by_less_than_the_noise_is_not_taken():
    """With measurements that lie 10 % apart, 5 % more rows are no reason to leave TensorFlow's default."""
    found = table({DEFAULT_TEXT: (5000, [200]), "1x2 caller on": (5000, [210])}, sizes=(1,), times=1)
    for one in list(found.samples):
        before = found.of(one, 1)[0]
        found.add(one, 1, Sample(before.p50_us, before.rows_per_s * 1.1))
    assert found.noise == pytest.approx(0.095, abs=0.01)
    assert taken(found) == DEFAULT


def test_a_quicker_answer_alone_is_gain_enough():
    """Where rows per second are equal, the lower p50 decides."""
    found = table({DEFAULT_TEXT: (20, [1000, 1000, 1000]), "1x1 caller on": (8, [1000, 1000, 1000])})
    assert taken(found) == setting("1x1 caller on")


def test_on_a_busy_machine_only_a_clear_gain_counts():
    """15 % more is taken on a quiet machine and not on a busy one, 30 % on both; no batch size is set then."""
    for factor, taken_when_busy in ((1.15, False), (1 + BUSY_NOISE + 0.05, True)):
        found = table({DEFAULT_TEXT: (50, [100.0] * 3), "1x1 caller on": (50, [100 * factor] * 3)})
        assert taken(found) == setting("1x1 caller on")
        assert (taken(found, busy=True) == setting("1x1 caller on")) is taken_when_busy
        choice = choose(found, True, busy=True)
        assert choice is not None
        assert choice.batch_size is None


def test_a_rate_that_was_seen_once_does_not_win():
    """A single lucky measurement does not go before what was measured repeatedly."""
    found = table({DEFAULT_TEXT: (50, [100, 100, 100]), "1x1 caller on": (50, [150, 150, 150])})
    for size in (1, 4, 8):
        found.add(setting("1x1 caller off"), size, Sample(50, 1))
        found.add(setting("2x1 caller on"), size, Sample(50, 900))
    assert taken(found) == setting("1x1 caller on")


def test_without_the_default_nothing_is_chosen():
    """What cannot be compared is not taken."""
    assert choose(SampleTable(DEFAULT, (1,)), True) is None


@pytest.mark.parametrize(
    ("rates", "size"),
    [
        ({1: 100, 4: 102, 8: 90}, 1),
        ({1: 100, 4: 300, 8: 305}, 4),
        ({1: 100, 4: 300, 8: 320}, 8),
        ({1: 0.1}, 1),
    ],
)
def test_the_smallest_batch_size_with_nearly_all_rows(rates: dict[int, float], size: int):
    """97 % of the most rows per second are as good as all, and a smaller batch answers sooner."""
    assert batch_size(rates) == size


def test_a_batch_size_is_set_only_if_enough_sizes_were_measured():
    """Where time ran out after two sizes of three, the limit stays what it is."""
    assert choose(MOBILENET, True).batch_size == 1
    found = table({DEFAULT_TEXT: (900_000, [1, 1])})
    assert choose(found, True).batch_size is None


# -- oneDNN --


def test_onednn_is_turned_off_for_a_model_that_gains():
    """By itself the small model is better without."""
    assert choose_onednn([MLP], True) is False
    assert choose_onednn([MLP], True, [True]) is False


def test_onednn_stays_on_for_a_model_that_would_lose():
    """The large one is better with it."""
    assert choose_onednn([MOBILENET], True) is True


def test_onednn_for_both_follows_the_time_that_rows_take():
    """A hundred microseconds more for each image weigh more than four for each row of the small model."""
    assert choose_onednn([MLP, MOBILENET], True) is True
    assert taken(MLP, onednn=True) == setting("1x1 caller on")


def test_onednn_is_never_turned_where_a_model_gets_worse_than_its_default():
    """Whatever the others gain by it."""
    gains = table({DEFAULT_TEXT: (9000, [100] * 3), "1x1 caller off": (900, [1000] * 3)})
    loses = table({DEFAULT_TEXT: (90, [10_000] * 3), "1x1 caller off": (200, [4000] * 3)})
    assert choose_onednn([gains], True) is False
    assert choose_onednn([gains, loses], True) is True


def test_onednn_where_only_one_value_was_measured():
    """There is nothing to turn."""
    assert choose_onednn([table({DEFAULT_TEXT: (9000, [100] * 3)})], True) is True


def test_onednn_fixed_to_what_is_bad_takes_the_least_bad():
    """Who turns it off by hand gets the best that is left, though that is worse than TensorFlow's default."""
    found = table(
        {DEFAULT_TEXT: (50, [100] * 3), "1x1 caller off": (90, [50] * 3), "2x1 pool off": (95, [40] * 3)}
    )
    assert taken(found, onednn=False) == setting("1x1 caller off")


# -- for any table --

rate = st.floats(1, 1e6)
texts = [
    f"{t}x{n} {p} {o}" for t in (1, 2) for n in (1, 2) for p in ("caller", "pool") for o in ("on", "off")
]
tables = st.dictionaries(
    st.sampled_from([text for text in texts if text != DEFAULT_TEXT]),
    st.tuples(rate, st.lists(rate, min_size=1, max_size=3)),
).flatmap(
    lambda others: st.tuples(rate, st.lists(rate, min_size=1, max_size=3)).map(
        lambda default: table({DEFAULT_TEXT: default, **others})
    )
)


@given(tables, st.booleans())
def test_never_worse_than_the_default(found: SampleTable, busy: bool):
    """Whatever was measured, the choice is the default or no worse than it beyond noise."""
    choice = choose(found, True, busy=busy)
    assert choice is not None
    noise = max(found.noise, BUSY_NOISE) if busy else found.noise
    assert choice.setting == DEFAULT or no_worse(found, choice.setting, noise)
    if choice.batch_size is not None:
        rates = found.rates(choice.setting)
        assert rates[choice.batch_size] >= NEARLY_ALL * max(rates.values())


@given(st.lists(tables, min_size=1, max_size=4))
def test_onednn_makes_no_model_worse_than_its_default(found: list[SampleTable]):
    """Turned from its default only if every model has a setting with it that is no worse."""
    if choose_onednn(found, True) is False:
        for one in found:
            choice = choose(one, False)
            assert choice is not None
            assert no_worse(one, choice.setting, one.noise)


@given(tables)
def test_a_table_survives_being_written(found: SampleTable):
    """Read again it gives the same choice."""
    again = SampleTable.from_message(found.to_message())
    assert choose(again, True) == choose(found, True)
    assert again.noise == found.noise
