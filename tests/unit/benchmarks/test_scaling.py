"""Mean value analysis against closed forms, and the simulation against it."""

from __future__ import annotations

from dataclasses import replace
from math import factorial

import pytest

from benchmarks.scaling import mva, simulation
from benchmarks.scaling.costs import Costs, Machine, Waking
from benchmarks.scaling.predict import limits, predict, several, shares

FREE = Waking(0, 0, 0, 0, 0, 0, 0)
WAKING = Waking(5, 4, 2, 3, 40, 0.5, 1)
COSTS = Costs(1, 12, 13, 7, 5, 3, 5, 0.2, 1.0, 1.0, WAKING)
BLOCKING = replace(COSTS, crowd_us=12 + 1e6, waking=replace(WAKING, give_way_us=1e6))
UNBATCHED = Costs(1, 30, 30, 0, 0, 0, 0, 10, 0, 0, FREE, max_batch_rows=1)
"""30 us of the worker's, 10 of the broker's, one by one."""


@pytest.mark.parametrize("stations", [1, 2, 5])
def test_balanced_stations_have_a_closed_form(stations: int) -> None:
    """M servers of the same demand D and n customers: X = n / (D (n + M - 1)) (Lazowska et al., Quantitative System
    Performance, 1984, chapter 5)."""
    solution = mva.solve([mva.servers(1, 7.0)] * stations, 20)
    for customers, per_us in enumerate(solution.throughput, 1):
        assert per_us == pytest.approx(customers / (7.0 * (customers + stations - 1)))
        assert solution.round_us[customers - 1] == pytest.approx(customers / per_us)


def test_the_machine_repairman_has_a_closed_form() -> None:
    """A delay Z and one server of demand D: X = (1 - p0) / D, where p0 is 1 over the sum of n! / (n - k)! (D / Z)^k."""
    think, demand = 100.0, 20.0
    solution = mva.solve([mva.delay(think), mva.servers(1, demand)], 12)
    for customers, per_us in enumerate(solution.throughput, 1):
        terms = [
            factorial(customers) / factorial(customers - k) * (demand / think) ** k
            for k in range(customers + 1)
        ]
        assert per_us == pytest.approx((1 - 1 / sum(terms)) / demand)


def test_stations_whose_speed_depends_on_who_is_there() -> None:
    """Two stations make a birth and death process, whose steady state is a product: both ways give one throughput."""
    rates = [mva.servers(3, 12.0), mva.batches(COSTS)]
    customers = 10
    weights = [1.0]
    for there in range(1, customers + 1):
        weights.append(weights[-1] * rates[0](customers - there + 1) / rates[1](there))
    expected = sum(weight * rates[1](there) for there, weight in enumerate(weights) if there) / sum(weights)
    assert mva.solve(rates, customers).throughput[-1] == pytest.approx(expected)


def test_as_many_servers_as_customers_are_a_delay() -> None:
    rates = mva.servers(8, 50.0), mva.delay(50.0)
    one, other = (mva.solve([rate, mva.servers(1, 9.0)], 8).throughput for rate in rates)
    assert one == pytest.approx(other)


def test_asymptotes_bound_the_throughput() -> None:
    """It is below both, near the first for one worker and near the second for many; they meet at the knee."""
    limit = mva.saturated(COSTS)
    for workers in (1, 4, 16, 64):
        per_s = mva.broker_throughput(COSTS, workers, 64)
        assert per_s <= limit * 1.000001
        assert (
            per_s <= workers / (COSTS.worker_us + COSTS.broker_us(1)) * 1e6 * 4
        )  # batches save at most this
    assert mva.broker_throughput(COSTS, 1, 64) == pytest.approx(1e6 / (COSTS.worker_us + COSTS.broker_us(1)))
    assert mva.broker_throughput(COSTS, 200, 200) == pytest.approx(limit, rel=0.05)
    assert mva.knee(COSTS) == pytest.approx(limit * (12 + 7 + 5.2 + 2) / 1e6)


def test_the_simulation_of_one_worker_is_a_sum() -> None:
    """Nothing waits for anything: a round is what its stages take."""
    polled = COSTS.worker_us + COSTS.broker_us(1) - COSTS.afterwards_us(1) + 2 * WAKING.poll_us
    per_s, batch = simulation.throughput(COSTS, Machine.ideal(4), 1)
    assert (per_s, batch) == (pytest.approx(1e6 / polled, rel=1e-3), 1)
    near = COSTS.worker_us + COSTS.broker_us(1) + 2 * (WAKING.busy_wake_us + WAKING.busy_sleep_us)
    alone = simulation.throughput(BLOCKING, Machine.ideal(2), 3, near=True)[0]
    assert 1e6 / near < alone < 2e6 / near * 1.2


def test_a_crowd_gives_way_where_that_costs_less() -> None:
    """More workers than cores do what is faster; giving way costs a change for each answer and each batch."""
    machine = Machine.ideal(2)
    for workers in (3, 8, 32):
        blocking = simulation.throughput(BLOCKING, machine, workers)[0]
        per_s, batch = simulation.throughput(COSTS, machine, workers)
        assert per_s > 1.1 * blocking
        spent = COSTS.worker_us + COSTS.broker_us(round(batch)) / round(batch)
        assert per_s < 2e6 / (spent + COSTS.crowd_us - COSTS.worker_us) * 1.05


def test_a_crowd_comes_one_by_one() -> None:
    """Its batches are what the other cores send while one runs, however many wait for their turn there."""
    per_s, batch = simulation.throughput(COSTS, Machine.ideal(2), 32)
    a_turn = COSTS.crowd_us
    assert per_s == pytest.approx(1e6 / a_turn, rel=0.01)
    while_it_runs = COSTS.giving_way().broker_us(1) - COSTS.request_us - COSTS.after_request_us
    assert batch == pytest.approx(
        while_it_runs / (a_turn - COSTS.request_us - COSTS.after_request_us), rel=0.3
    )
    colder = replace(COSTS, crowd_us=16)
    assert simulation.throughput(colder, Machine.ideal(2), 32)[0] == pytest.approx(1e6 / 16, rel=0.05)


def test_the_simulation_agrees_with_the_analysis_where_that_is_exact_in_the_limit() -> None:
    """One by one, with enough cores: with one worker and with many more than the knee the distribution of the service
    time does not matter. In between fixed times wait for less than exponential ones do."""
    machine = Machine.ideal(64)
    for workers in (1, 20, 40):
        simulated = simulation.throughput(UNBATCHED, machine, workers)[0]
        assert simulated == pytest.approx(mva.broker_throughput(UNBATCHED, workers, 63), rel=0.01)
    for workers in (2, 3, 4, 6):
        simulated = simulation.throughput(UNBATCHED, machine, workers)[0]
        analysed = mva.broker_throughput(UNBATCHED, workers, 63)
        assert analysed <= simulated * 1.001
        assert simulated < 1.35 * analysed


def test_with_batches_both_come_to_the_same_limit() -> None:
    """Saturated, all that wait are one batch, up to its bound."""
    small = replace(COSTS, max_batch_rows=8, waking=FREE)
    simulated, batch = simulation.throughput(small, Machine.ideal(128), 100)
    assert batch == pytest.approx(8, rel=0.05)
    assert simulated == pytest.approx(mva.saturated(small), rel=0.02)
    assert mva.broker_throughput(small, 100, 127) == pytest.approx(mva.saturated(small), rel=0.02)


def test_cores_bound_what_is_done() -> None:
    """On two threads of one core, throughput is at most what both do divided by what a request costs."""
    machine = Machine(2, (1.0, 1.25))
    for workers in (4, 16, 32):
        per_s, batch = simulation.throughput(COSTS, machine, workers)
        spent = COSTS.worker_us + COSTS.broker_us(round(batch)) / round(batch)
        assert per_s < 1.25e6 / spent * 1.05


def test_polling_takes_a_core_from_who_works_beside_it() -> None:
    """Two threads of one core: who polls slows the other down, and a round takes as much longer."""
    shared, apart = (simulation.throughput(COSTS, Machine(2, speeds), 1)[0] for speeds in ((1, 1.2), (1, 2)))
    assert shared == pytest.approx(0.6 * apart, rel=0.05)


def test_wake_ups_cost_the_broker() -> None:
    """The same cores, once all workers poll and once they sleep."""
    assert mva.saturated(COSTS.woken()) < mva.saturated(COSTS)
    assert COSTS.woken().broker_us(4) == COSTS.broker_us(4) + 4 * WAKING.wake_us


def test_who_is_woken_near_needs_no_idle_core() -> None:
    """With few workers on idle cores it is quicker to stay; with all cores busy there is no other way."""
    machine = Machine(2, (1.0, 1.3))
    apart, near = (simulation.throughput(COSTS, machine, 2, near)[0] for near in (False, True))
    assert near > 1.2 * apart
    apart, near = (simulation.throughput(COSTS, machine, 32, near)[0] for near in (False, True))
    assert near == pytest.approx(apart, rel=0.25)


def test_rows_fill_a_batch() -> None:
    """A batch is bounded in rows: requests of many rows share one with fewer others."""
    wide = replace(COSTS, rows=16)
    assert wide.most == 4
    assert wide.serve_us(6) == wide.broker_us(4) + wide.broker_us(2)
    assert wide.broker_us(2) == pytest.approx((5 + 2 * 3) + (5 + 0.2 * 32) + (1 + 2 * 1))
    assert replace(COSTS, rows=100).most == 1


def test_predictions_and_tables_are_finite_and_repeatable() -> None:
    """Every cell of every table is a number, and the same again."""
    assert predict(COSTS, Machine(2, (1.0, 1.3)), 8) == predict(COSTS, Machine(2, (1.0, 1.3)), 8)
    for sheet in (limits({"mlp": COSTS}, (2,)), shares(COSTS, (2,)), several(COSTS, 4, (1, 2, 4))):
        assert sheet.rows
        for row in sheet.rows:
            assert len(row) == len(sheet.headings)
            assert all(float(cell.replace(",", "")) > 0 for cell in row[1:])
