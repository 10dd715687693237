"""The stages' costs, the prediction, and the sweep that it is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.figures import Figure, Result, Sheet
from benchmarks.harness.arm import Arm
from benchmarks.harness.bout import Pace, run_bout
from benchmarks.harness.run import Target
from benchmarks.harness.workbench import Workbench
from benchmarks.rates import RateSeries
from benchmarks.sampling import Spread
from benchmarks.scaling import predict, stages
from benchmarks.scaling.costs import Costs, Machine
from benchmarks.scaling.predict import Predicted

HEAD = "benchmarks.models:head"
HEADINGS = (
    "",
    "analysis/s",
    "simulated/s",
    "near/s",
    "measured/s",
    "error",
    "near: error",
    "rows a batch",
    "measured ",
)
Key = tuple[str, int, int]
"""Model, rows of a request, workers."""


@dataclass
class Bench(Workbench):
    workers: tuple[int, ...]
    rows: tuple[int, ...]
    times: int
    pace: Pace


def measure(bench: Bench) -> Result:
    models = {"head": HEAD, "mlp": bench.mlp}
    bench.progress(0, 1, "measuring what the stages cost")
    machine, costs = stages.measured(models, bench.rows, bench.times, bench.directory)
    predicted = {
        (model, rows, workers): predict.predict(each, machine, workers)
        for model, by_rows in costs.items()
        for rows, each in by_rows.items()
        for workers in bench.workers
    }
    series: dict[Key, RateSeries] = {}
    for model, source in models.items():
        for rows in bench.rows:
            series |= _sweep(bench, model, source, rows)
    errors = {key: _ratio(one.simulated, series[key].per_s) for key, one in predicted.items()}
    nearby = {key: _ratio(one.near, series[key].per_s) for key, one in predicted.items()}
    figures = [Figure(f"{_name(key)}: simulated / measured", spread, "x") for key, spread in errors.items()]
    result = Result(SCALING.name, SCALING.title, "us", {}, figures, _notes(machine, errors, nearby))
    result.sheets = [
        _stages(costs),
        Sheet("Predicted and measured", HEADINGS, [_row(key, predicted[key], series[key]) for key in series]),
        predict.limits({model: by_rows[min(by_rows)] for model, by_rows in costs.items()}),
        predict.shares(costs["mlp"][min(costs["mlp"])]),
        *(predict.several(costs["mlp"][min(costs["mlp"])], size) for size in predict.SIZES),
    ]
    result.details = {
        "machine": asdict(machine),
        "costs": [
            {"model": model, **asdict(each)} for model, by_rows in costs.items() for each in by_rows.values()
        ],
        "sweep": [
            {
                "model": model,
                "rows": rows,
                "workers": workers,
                "mva_per_s": predicted[model, rows, workers].mva,
                "simulated_per_s": predicted[model, rows, workers].simulated,
                "near_per_s": predicted[model, rows, workers].near,
                "measured_per_s": [window.per_s for window in one.windows],
                "batch_rows": {str(size): runs for size, runs in sorted(one.batch_rows.items())},
                "answers_checked": one.checked,
            }
            for (model, rows, workers), one in series.items()
        ],
    }
    return result


def _sweep(bench: Bench, model: str, source: str, rows: int) -> Iterator[tuple[Key, RateSeries]]:
    arms = {(model, rows, workers): _arm(bench, model, source, rows, workers) for workers in bench.workers}
    series = run_bout(list(arms.values()), bench.pace, bench.progress, together=False)
    return ((key, series[arm.name]) for key, arm in arms.items())


def _arm(bench: Bench, model: str, source: str, rows: int, workers: int) -> Arm:
    spec: dict[str, Any] = {"source": source}
    if source is not HEAD:
        spec["intra_op_threads"] = stages.ONE_THREAD
    options = {"workers": workers, "directory": str(bench.directory), "models": {model: spec}, "model": model}
    name = f"{model}-{rows}-{workers}"
    facts = {"workers": workers}
    return Arm(
        name,
        _name((model, rows, workers)),
        "benchmarks.arms.brokered:brokered",
        f"{model}:{rows}",
        options,
        facts=facts,
    )


def _name(key: Key) -> str:
    model, rows, workers = key
    return f"{model}, {rows:2} {'row' if rows == 1 else 'rows'}, {workers:2} {'worker' if workers == 1 else 'workers'}"


def _ratio(predicted: float, measured: Spread) -> Spread:
    return Spread.of(sorted(predicted / each for each in measured.rounds))


def _row(key: Key, predicted: Predicted, series: RateSeries) -> tuple[str, ...]:
    measured = series.per_s.median
    runs = sum(series.batch_rows.values())
    rows = sum(size * times for size, times in series.batch_rows.items())
    return (
        _name(key),
        f"{predicted.mva:,.0f}",
        f"{predicted.simulated:,.0f}",
        f"{predicted.near:,.0f}",
        f"{measured:,.0f}",
        f"{predicted.simulated / measured - 1:+.0%}",
        f"{predicted.near / measured - 1:+.0%}",
        f"{predicted.batch * key[1]:.1f}",
        f"{rows / runs:.1f}" if runs else "",
    )


def _stages(costs: Mapping[str, Mapping[int, Costs]]) -> Sheet:
    """Without what waking costs, which is not a request's own."""
    headings = (
        "",
        "worker",
        "in a crowd",
        "intake, one alone",
        "intake, batch",
        "+ each request",
        "run",
        "+ each row",
        "afterwards",
        "+ each request ",
    )
    rows = [
        (
            f"{model}, {count} {'row' if count == 1 else 'rows'}",
            *(
                f"{value:.2f}"
                for value in (
                    each.worker_us,
                    each.crowd_us,
                    each.single_us,
                    each.batch_us,
                    each.request_us,
                    each.run_fixed_us,
                    each.run_row_us,
                    each.after_us,
                    each.after_request_us,
                )
            ),
        )
        for model, by_rows in costs.items()
        for count, each in by_rows.items()
    ]
    waits = next(iter(next(iter(costs.values())).values())).waking
    title = (
        f"What the stages cost, us. To wake a sleeper: {waits.wake_us:.1f} for who posts and {waits.sleep_us:.1f} for "
        f"who slept, {waits.latency_us:.0f} until it runs; with all cores busy {waits.busy_wake_us:.1f} and "
        f"{waits.busy_sleep_us:.1f}. To one that polls: {waits.poll_us:.2f}. To give way: {waits.give_way_us:.2f}"
    )
    return Sheet(title, headings, rows)


def _notes(machine: Machine, errors: Mapping[Key, Spread], nearby: Mapping[Key, Spread]) -> list[str]:
    speeds = ", ".join(f"{speed:.2f}" for speed in machine.speeds)
    return [
        f"Simulated beside measured: {_off(errors)}; near: {_off(nearby)}.",
        "near: who is woken gets the core of the one who wakes it; else one that is idle, if there is one.",
        f"1 to {machine.cores} cores at work do {speeds} times what one does alone.",
        "Of 16 and of 64 cores, each is taken to do as much as one alone.",
        "Nothing of it comes from a throughput.",
    ]


def _off(errors: Mapping[Key, Spread]) -> str:
    off = sorted(abs(spread.median - 1) for spread in errors.values())
    return f"off by {off[len(off) // 2]:.0%} in the median, by {off[-1]:.0%} at most"


SCALING = Target(
    "scaling", "throughput of one broker: predicted from its stages' costs, and measured", measure
)
