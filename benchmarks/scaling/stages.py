"""Measures what the stages cost, in a process of its own: it imports TensorFlow, and says what it found as JSON.

python -m benchmarks.scaling.stages '{"models": {"mlp": SOURCE}, "rows": [1], "times": 500, "directory": PATH}'
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from time import monotonic_ns
from typing import Any

import numpy as np

from benchmarks import workloads
from benchmarks.harness.modules import run_module
from benchmarks.scaling import waking
from benchmarks.scaling.costs import Costs, Machine, Waking
from benchmarks.scaling.intake_stage import stage
from benchmarks.workloads import Checker, Workload
from broker.settings import cores

TOGETHER = (1, 2, 4, 8, 16)
"""Requests in a batch, to see what grows with them."""
PASSES = 5
"""Of each figure, of which the median counts: what meets another program in one of them does not count."""
ONE_THREAD = 1
SPEED_S = 0.2
LEAST_US = 1.0
"""Of a worker, where noise would have it less."""

Found = tuple[Machine, dict[str, dict[int, Costs]]]


def measured(models: Mapping[str, str], rows: Sequence[int], times: int, directory: Path) -> Found:
    """The machine, and of each model the costs by rows. Raises ArmFailed."""
    spec = {"models": dict(models), "rows": list(rows), "times": times, "directory": str(directory)}
    said = run_module("measure the stages", "benchmarks.scaling.stages", json.dumps(spec))
    return _read(json.loads(said.splitlines()[-1]))


def _read(said: Mapping[str, Any]) -> Found:
    machine = Machine(said["cores"], tuple(said["speeds"]))
    waits = Waking(**said["waking"])
    return machine, {
        model: {int(rows): Costs(**{**costs, "waking": waits}) for rows, costs in by_rows.items()}
        for model, by_rows in said["costs"].items()
    }


def main() -> None:
    spec = json.loads(sys.argv[1])
    times, rows = spec["times"], spec["rows"]
    passes = [waking.measure(times) for _ in range(PASSES)]
    waits = Waking(**{name: median(asdict(one)[name] for one in passes) for name in asdict(passes[0])})
    machine = waking.speeds(SPEED_S, cores())
    tasks = [(model, count) for model in spec["models"] for count in rows]
    rounds = {
        (model, count): _round_us(spec["models"][model], _workload(model, count), times, spec["directory"])
        for model, count in tasks
    }
    costs: dict[str, dict[int, Any]] = {}
    for model, count in tasks:  # TensorFlow comes into this process here: nothing is forked any more
        found = _broker(spec["models"][model], _workload(model, count), count, times)
        run_us = found["run_fixed_us"] + found["run_row_us"] * count
        worker_us = _worker_us(rounds[model, count], machine, found["single_us"], run_us, waits.poll_us)
        made = Costs(count, worker_us, **found, waking=waits)
        costs.setdefault(model, {})[count] = asdict(made)
    said = {"cores": machine.cores, "speeds": machine.speeds, "waking": asdict(waits), "costs": costs}
    print(json.dumps(said))


def _workload(model: str, rows: int) -> Workload:
    return workloads.make(f"{model}:{rows}", 1)


def _options(source: str) -> dict[str, Any]:
    return {"source": source} if ":" in source else {"source": source, "intra_op_threads": ONE_THREAD}


def _round_us(source: str, workload: Workload, times: int, directory: str) -> float:
    """A whole call of one worker, with its check of the answer, where both sides poll: the median."""
    import worker_client
    from broker import Broker

    checker = Checker(workload)
    with (
        Broker(
            models={"model": _options(source)}, name=f"{directory}/stages.sock", wait="poll", tune="off"
        ) as broker,
        worker_client.connect(broker.address, wait="poll") as client,
    ):
        predict = client.model("model").predict
        inputs = list(enumerate(workload.inputs))
        began = []
        for index, x in islice(cycle(inputs), times * PASSES):
            began.append(monotonic_ns())
            monotonic_ns()  # as the workers of the sweep, who read the clock twice for each call
            checker.check(index, predict(x))
    return float(np.median(np.diff(began[len(began) // PASSES :]))) / 1e3  # without the first, for warming up


def _worker_us(round_us: float, machine: Machine, single_us: float, run_us: float, poll_us: float) -> float:
    """What is the worker's own in a polled round: all that is neither the broker's nor on its way. Meanwhile the other
    side polls, which takes its share of what two cores do."""
    alone = machine.speed(2) / 2
    return max(LEAST_US, (round_us - 2 * poll_us) * alone - single_us - run_us)


def _broker(source: str, workload: Workload, rows: int, times: int) -> dict[str, float]:
    """The intake's and the model's fields of Costs."""
    from broker.models.spec import ModelSpec

    spec = ModelSpec("model", **_options(source))
    counts = np.array([count for count in TOGETHER if count * rows <= Costs.max_batch_rows])
    with stage(spec, workload, max(counts)) as intake:
        passes = [[intake.time(count, times) for count in (0, *counts.tolist())] for _ in range(PASSES)]
    (_, _, nothing), *found = np.median(np.array(passes), axis=0)
    answered, runs, after = np.array(found).T
    by_row, fixed = _line(counts * rows, runs)
    until = answered - runs
    request, batch = _line(counts[1:], until[1:])
    after_request, after_fixed = _line(counts, np.maximum(0.0, after - nothing))
    return {
        "single_us": float(until[0]),
        "batch_us": batch,
        "request_us": request,
        "run_fixed_us": fixed,
        "run_row_us": by_row,
        "after_us": after_fixed,
        "after_request_us": after_request,
    }


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and intercept, neither below 0: where noise would have one so, a line through the mean, level or from 0."""
    if len(x) == 1:
        return 0.0, float(y[0])
    slope, intercept = np.polyfit(x, y, 1)
    if slope < 0:
        return 0.0, float(y.mean())
    if intercept < 0:
        return float(y.mean() / x.mean()), 0.0
    return float(slope), float(intercept)


if __name__ == "__main__":
    main()
