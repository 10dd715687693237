"""The order of measuring, on machines that are made up: how fast each setting is, and how noisy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from broker.tuning.candidates import Fixed, Processors, default_setting, settings
from broker.tuning.choice import choose, choose_onednn
from broker.tuning.race import ROUNDS, Race, RaceProgress, Visit
from broker.tuning.setting import RunSetting, Sample, SampleTable

SIZES = (1, 4, 8, 16, 32, 64)


class Machine:
    """`run_us(setting, rows)` is how long a run takes; `noise` is the relative spread of what is measured."""

    def __init__(
        self, run_us: Callable[[RunSetting, int], float], processors: int = 2, noise: float = 0.0
    ) -> None:
        self.run_us = run_us
        self.processors = Processors(processors, processors)
        self.visits: list[Visit] = []
        self.seconds = 0.0
        self._noise = noise
        self._rng = np.random.default_rng(7)
        self._warm: set[tuple[RunSetting, int]] = set()

    def measure(self, visit: Visit) -> Sample:
        self.visits.append(visit)
        us = self.run_us(visit.setting, visit.rows) * (1 + self._noise * abs(self._rng.standard_normal()))
        first = (visit.setting, visit.rows) not in self._warm
        self._warm.add((visit.setting, visit.rows))
        seconds = max(visit.seconds, visit.least_runs * us / 1e6) + first * us / 1e6
        self.seconds += seconds
        return Sample(us, visit.rows * visit.setting.side_by_side / us * 1e6, seconds)

    def race(
        self, seconds: float = 10.0, measure: Callable[[Visit], Sample | None] | None = None
    ) -> SampleTable:
        default = default_setting(self.processors, Fixed(), True)
        tried = settings(self.processors, Fixed(), default, [True, False])
        return Race(tried, default, SIZES, seconds, measure or self.measure).run()

    def best(self) -> tuple[float, float]:
        """The most rows per second that what is chosen really makes, and that the default makes."""
        found = self.race()
        choice = choose(found, choose_onednn([found], True))
        assert choice is not None
        return self._rate(choice.setting), self._rate(found.default)

    def _rate(self, one: RunSetting) -> float:
        return max(rows * one.side_by_side / self.run_us(one, rows) * 1e6 for rows in SIZES)


def convolution(one: RunSetting, rows: int) -> float:
    """Gains little by threads, nothing by batches, much by runs side by side."""
    shared = 1 if one.intra_op_threads * one.side_by_side <= 2 else 1.6
    threads = 1 if one.intra_op_threads == 1 else 1.3 if rows == 1 else 0.75
    return (400 + 7000 * rows * threads) * shared * (1 if one.onednn else 1.4)


def perceptron(one: RunSetting, rows: int) -> float:
    """A few microseconds; the pool and the second thread only cost."""
    cost = 6.0 if one.caller_thread else 16.0
    return cost + (5 if one.onednn else 0) + (20 if one.intra_op_threads > 1 and rows > 1 else 0) + 0.2 * rows


def giant(one: RunSetting, rows: int) -> float:
    """A run takes longer than there is time."""
    return 20e6 * rows


def test_the_default_comes_first():
    """However little time there is, there is something to compare with."""
    machine = Machine(convolution)
    machine.race(seconds=0.01)
    first = machine.visits[0]
    assert first.setting == RunSetting(onednn=True, intra_op_threads=2, caller_thread=False, side_by_side=1)
    assert first.rows == 1


def test_rounds_are_interleaved():
    """No setting is visited twice before all others have been visited once."""
    machine = Machine(perceptron)
    machine.race()
    alone = [visit.setting for visit in machine.visits if visit.rows == 1]
    each = len(set(alone))
    assert len(set(alone[:each])) == each
    assert len(set(alone[each : 2 * each])) == each


def test_what_runs_inline_is_not_tried_side_by_side():
    """A light model runs on the intake thread, one run at a time."""
    machine = Machine(perceptron)
    machine.race()
    assert {visit.setting.side_by_side for visit in machine.visits} == {1}


def test_sizes_end_where_they_gain_nothing():
    """A model that batches do not help is not measured with batches of 64."""
    machine = Machine(convolution)
    machine.race(seconds=1000)
    assert max(visit.rows for visit in machine.visits) < 64


def test_front_runners_are_seen_several_times():
    """The best is not told by one measurement, and neither is the default."""
    machine = Machine(perceptron)
    found = machine.race()
    best = max(found.settings, key=found.best_rate)
    for one in (best, found.default):
        for rows in found.rates(one):
            assert len(found.of(one, rows)) == ROUNDS


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.15])
@pytest.mark.parametrize(("model", "gain"), [(convolution, 1.3), (perceptron, 2.0)])
def test_the_best_is_found(model: Callable[[RunSetting, int], float], gain: float, noise: float):
    """What is chosen is much better than the default, on a quiet machine and on a noisy one."""
    chosen, default = Machine(model, noise=noise).best()
    assert chosen >= gain * default


@pytest.mark.parametrize("model", [convolution, perceptron, giant])
@pytest.mark.parametrize("processors", [1, 2, 16, 64])
def test_time_is_bounded(model: Callable[[RunSetting, int], float], processors: int):
    """It ends in time, but for the first visit, whose length nobody knows."""
    machine = Machine(model, processors)
    machine.race(seconds=5)
    limit = 5 + 2 * model(machine.visits[0].setting, 1) / 1e6
    assert machine.seconds - machine.run_us(machine.visits[0].setting, 1) * 4 / 1e6 <= limit


def test_a_run_that_is_known_to_take_too_long_is_not_made():
    """Not even the default's, if what it took when the model was opened does not fit."""
    machine = Machine(giant)
    default = default_setting(machine.processors, Fixed(), True)
    race = Race([default], default, SIZES, 10.0, machine.measure, first_us=giant(default, 1))
    assert race.run().settings == []
    assert machine.visits == []
    assert not race.complete


def test_want_of_time_is_told():
    """`complete` says whether more time would have shown more."""

    def complete(seconds: float) -> bool:
        default = default_setting(Processors(2, 2), Fixed(), True)
        tried = settings(Processors(2, 2), Fixed(), default, [True])
        race = Race(tried, default, SIZES, seconds, Machine(convolution).measure)
        race.run()
        return race.complete

    assert complete(1000)
    assert not complete(1)


def test_what_cannot_be_measured_is_left_out():
    """A setting that fails is not tried again and does not end the race."""
    machine = Machine(perceptron)
    asked: list[RunSetting] = []

    def measure(visit: Visit) -> Sample | None:
        if not visit.setting.onednn:
            asked.append(visit.setting)
            return None
        return machine.measure(visit)

    found = machine.race(measure=measure)
    assert all(one.onednn for one in found.settings)
    assert len(asked) == len(set(asked))


def test_nothing_can_be_measured():
    """Then the table is empty."""
    assert Machine(perceptron).race(measure=lambda visit: None).settings == []


def test_progress_only_goes_on():
    """As many done as visits were made, never more than planned, the time left never growing."""
    told: list[RaceProgress] = []
    machine = Machine(convolution)
    default = default_setting(machine.processors, Fixed(), True)
    tried = settings(machine.processors, Fixed(), default, [True, False])
    Race(tried, default, SIZES, 10.0, machine.measure, told.append).run()
    assert [progress.done for progress in told] == list(range(1, len(machine.visits) + 1))
    assert all(progress.done <= progress.planned for progress in told)
    left = [progress.seconds_left for progress in told]
    assert left == sorted(left, reverse=True)


@hypothesis_settings(max_examples=30)
@given(
    st.integers(1, 32),
    st.floats(1, 1e7),
    st.floats(0.5, 3),
    st.floats(0.5, 2),
    st.floats(0.1, 30),
)
def test_any_machine(processors: int, row_us: float, threads: float, onednn: float, seconds: float):
    """Whatever the speeds: it ends, the default is measured, and what is chosen is really no worse."""

    def run_us(one: RunSetting, rows: int) -> float:
        cost = row_us * rows * (threads if one.intra_op_threads > 1 else 1) * (onednn if one.onednn else 1)
        return cost + (2 if one.caller_thread else 10)

    machine = Machine(run_us, processors)
    found = machine.race(seconds)
    assert found.default in found.settings
    choice = choose(found, True)
    assert choice is not None
    assert run_us(choice.setting, 1) <= run_us(found.default, 1) * (1 + found.noise + 1e-9)
