"""Measures what the stages cost, in a process of its own: it imports TensorFlow, and says what it found as JSON.

python -m benchmarks.scaling.stages '{"models": {"mlp": SOURCE}, "rows": [1], "times": 500, "directory": PATH}'
"""

from __future__ import annotations

import json
import mmap
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from statistics import median
from time import monotonic_ns, thread_time_ns
from typing import Any

import numpy as np

from benchmarks import workloads
from benchmarks.harness.affinity import CALLER, OTHER, pin
from benchmarks.harness.lifetime import fork
from benchmarks.harness.modules import run_module
from benchmarks.scaling import waking
from benchmarks.scaling.costs import Costs, Machine, Waking
from benchmarks.scaling.intake_stage import stage
from benchmarks.workloads import Checker, Workload
from broker.host.processors import cores
from worker_client.wire.layout import COMPLETED_NS, TAKEN_NS

TOGETHER = (1, 2, 4, 8, 16)
"""Requests in a batch, to see what grows with them."""
PASSES = 5
"""Of each figure, of which the median counts: what meets another program in one of them does not count."""
ONE_THREAD = 1
SPEED_S = 0.2
CROWD = 8
"""Workers that share a core in turns, to see what a call costs one whose caches others have used."""
CHEAPEST = "head"
"""Of benchmarks.models."""

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
    where = spec["directory"]
    alone = {
        (model, count): _alone_us(spec["models"][model], _workload(model, count), times, where)
        - 2 * waits.poll_us
        for model, count in tasks
    }
    crowd = {count: _crowd_us(_workload(CHEAPEST, count), times, where) for count in rows}
    costs: dict[str, dict[int, Any]] = {}
    for model, count in tasks:  # TensorFlow comes into this process here: nothing is forked any more
        found = _broker(spec["models"][model], _workload(model, count), count, times)
        made = Costs(count, alone[model, count], crowd[count], **found, waking=waits)
        costs.setdefault(model, {})[count] = asdict(made)
    said = {"cores": machine.cores, "speeds": machine.speeds, "waking": asdict(waits), "costs": costs}
    print(json.dumps(said))


def _workload(model: str, rows: int) -> Workload:
    return workloads.make(f"{model}:{rows}", 1)


def _options(source: str) -> dict[str, Any]:
    return {"source": source} if ":" in source else {"source": source, "intra_op_threads": ONE_THREAD}


def _alone_us(source: str, workload: Workload, times: int, directory: str) -> float:
    """A worker's part of a call, with its check of the answer, and both hand-overs, where both sides poll: all but what
    lies between the broker's stamps."""
    with _served(source, directory, wait="poll") as address:
        return _own_us(_stamped_ns, (workload, times * PASSES, address), workers=1)


def _crowd_us(workload: Workload, times: int, directory: str) -> float:
    """Processor time of a call of one of CROWD workers that share a core. The broker has another, and a model so cheap
    that it has answered whenever a worker has its turn."""
    with _served(f"benchmarks.models:{CHEAPEST}", directory) as address:
        return _own_us(_spent_ns, (workload, times * PASSES, address), CROWD)


@contextmanager
def _served(source: str, directory: str, **options: Any) -> Iterator[str]:
    from broker import Broker

    models, name = {"model": _options(source)}, f"{directory}/stages.sock"
    with Broker(models=models, name=name, supervise=False, tune="off", **options) as broker:
        assert broker.pid is not None
        pin(OTHER, broker.pid)
        yield broker.address


def _own_us(measure: Callable[..., int], arguments: tuple[Any, ...], workers: int) -> float:
    """The median of what so many workers measure, which share a core."""
    found = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")

    def work(number: int) -> None:
        pin(CALLER)
        found[number] = measure(*arguments)

    for pid in [fork(work, number) for number in range(workers)]:
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError("a worker failed")
    return median(found[:workers]) / 1e3


def _stamped_ns(workload: Workload, times: int, address: str) -> int:
    """From the moment it has an answer until the broker has its next request, and from an answer until it has that."""
    with _calls(workload, address, wait="poll") as (handle, call):
        bound = handle.bound()
        assert bound is not None
        slot = max(bound.channel.slots, key=lambda each: each.woken_ns)  # that was used last is used again
        there, back, woken_ns = [], [], slot.woken_ns
        for _ in range(times):
            call()
            there.append(slot.words[TAKEN_NS] - woken_ns)
            woken_ns = slot.woken_ns
            back.append(woken_ns - slot.words[COMPLETED_NS])
    return int(median(there[times // 2 :]) + median(back[times // 2 :]))


def _spent_ns(workload: Workload, times: int, address: str) -> int:
    with _calls(workload, address) as (_, call):
        for _ in range(times):  # until it has found how to wait, and all others are there
            call()
        began_ns = thread_time_ns()
        for _ in range(times):
            call()
        return (thread_time_ns() - began_ns) // times


@contextmanager
def _calls(workload: Workload, address: str, **options: Any) -> Iterator[tuple[Any, Callable[[], None]]]:
    """The handle, and a function that calls it as the workers of the sweep do, who read the clock twice for a call."""
    import worker_client

    checker, inputs = Checker(workload), cycle(enumerate(workload.inputs))
    with worker_client.connect(address, **options) as client:
        handle = client.model("model")

        def call() -> None:
            index, x = next(inputs)
            monotonic_ns()
            answer = handle.predict(x)
            monotonic_ns()
            checker.check(index, answer)

        call()
        yield handle, call


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
