"""What the model says: a sweep, to be compared with a measured one, and where one broker is at its end. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.figures import Sheet
from benchmarks.scaling import mva, simulation
from benchmarks.scaling.costs import Costs, Machine

SIZES = (16, 64)
APP_US = (0.0, 100.0, 1000.0, 10_000.0)
"""What a worker does between two calls: nothing, as in a benchmark; parsing; a light web framework; a heavy one."""
MODEL_ROW_US = (0.0, 1.0, 10.0, 100.0, 400.0)
"""Of light models; what takes more than 0.5 ms is heavy, and has threads of its own."""


@dataclass(frozen=True)
class Predicted:
    """Requests a second by either method, and requests in a batch by the simulation: with those who are woken on a core
    that is idle (`simulated`), and on that of the one who wakes them (`near`)."""

    mva: float
    simulated: float
    near: float
    batch: float


def predict(costs: Costs, machine: Machine, workers: int) -> Predicted:
    """Mean value analysis gives the broker a core to itself. It knows two ways to wait: all poll, or all give way."""
    polls = workers <= machine.cores
    simulated, batch = simulation.throughput(costs, machine, workers)
    near, _ = simulation.throughput(costs, machine, workers, near=True)
    analysed = mva.broker_throughput(
        costs if polls else costs.giving_way(), workers, max(1, machine.cores - 1)
    )
    return Predicted(analysed, simulated, near, batch)


def limits(costs: Mapping[str, Costs], sizes: Sequence[int] = SIZES) -> Sheet:
    """How many workers keep one broker's thread busy, by what they do besides calling."""
    rows = []
    for name, each in costs.items():
        for app_us in APP_US:  # of which the first is the benchmark's
            busy = each.with_app(app_us)
            rows.append(
                (
                    f"{name}, app {app_us:,.0f} us",
                    f"{mva.saturated(busy):,.0f}",
                    f"{mva.knee(busy):,.0f}",
                    f"{mva.saturated(busy.woken()):,.0f}",
                    f"{mva.knee(busy.woken()):,.0f}",
                    *(f"{_best(busy, Machine.ideal(size)):,.0f}" for size in sizes),
                )
            )
    headings = ("limit/s, polling", "knee, workers", "limit/s, waking", "knee, workers ")
    return Sheet(
        "Where one broker's thread is at its end",
        ("", *headings, *(f"{size} cores: most/s" for size in sizes)),
        rows,
    )


def _best(costs: Costs, machine: Machine) -> float:
    """The most of any number of workers on that machine, in steps of two."""
    return max(simulation.throughput(costs, machine, workers)[0] for workers in _steps(2 * machine.cores))


def _steps(most: int) -> Iterable[int]:
    number = 1
    while number <= most:
        yield number
        number *= 2


def shares(costs: Costs, sizes: Sequence[int] = SIZES) -> Sheet:
    """What one broker makes of a machine on which its workers could run the same light model themselves."""
    rows = []
    for row_us in MODEL_ROW_US:
        each = costs.with_model(costs.run_fixed_us, row_us)
        cells = []
        for size in sizes:
            machine = Machine.ideal(size)
            alone = machine.full / (each.run_us(1)) * 1e6
            one = _best(each, machine)
            cells += [f"{one:,.0f}", f"{alone:,.0f}", f"{alone / one:,.1f}"]
        rows.append((f"{each.run_fixed_us:.1f} + {row_us:g} us a row", *cells))
    headings = [
        heading
        for size in sizes
        for heading in (f"{size} cores: broker/s", f"{size}: callables/s", f"{size}: x lost")
    ]
    return Sheet("One broker beside a bare callable on every core", ("model", *headings), rows)


def several(costs: Costs, cores: int, brokers: Sequence[int] = (1, 2, 4, 8)) -> Sheet:
    """The same machine with more than one broker, each with its share of the cores and of the workers."""
    rows = []
    for number in brokers:
        part = Machine.ideal(cores // number)
        if part.cores >= 2:
            best = number * _best(costs, part)
            rows.append((f"{number}, {part.cores} cores for each", f"{best:,.0f}"))
    return Sheet(f"{cores} cores: several brokers", ("brokers", "most/s"), rows)
