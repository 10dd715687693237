"""The process of an arm of several workers: opens what they share, forks them, and runs windows in all of them at once.

interleaved.py (another process)             this process                        its workers
{"run": (seconds, warm-up)} -- socket -->    start and end of the window ----->  worker_loop.py
                            <-- socket --    {"window": RateWindow,       <----  CallSamples of each
                                              "checked": n}
                                             or {"error": text}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from time import monotonic_ns
from typing import Any

from benchmarks import workloads
from benchmarks.harness.host.cpu import descendants
from benchmarks.harness.one_worker import main, resolve
from benchmarks.harness.timed import ArmWorkers
from benchmarks.harness.worker_loop import serve as serve_worker
from benchmarks.rates import RateWindow
from broker.bench.load.forks import ForkedProcess, forked_processes, messages
from broker.bench.load.processor_use import used_between
from broker.bench.load.samples import Window
from worker_client.wire.errors import BrokerError

START_TIMEOUT_S = 110.0
WINDOW_TIMEOUT_S = 60.0
_LEAD_NS = 5_000_000  # for the message to reach every worker


def serve(connection: Connection, spec: dict[str, Any]) -> None:
    workload = workloads.make(spec["workload"], spec["seed"])
    with (
        resolve(spec["factory"])(workload, **spec["options"]) as arm,
        forked_processes([partial(serve_worker, worker=worker) for worker in arm.workers]) as processes,
    ):
        for process in processes:
            process.receive(START_TIMEOUT_S)
        connection.send({"facts": dict(arm.facts)})
        for message in messages(connection):
            seconds, warm_up_s = message["run"]
            connection.send(_window(arm, processes, seconds, warm_up_s))


def _window(
    arm: ArmWorkers, processes: Sequence[ForkedProcess], seconds: float, warm_up_s: float
) -> dict[str, Any]:
    before = Counter(arm.batches())
    start = monotonic_ns() + _LEAD_NS + int(warm_up_s * 1e9)
    end = start + int(seconds * 1e9)
    for process in processes:
        process.connection.send((start, end))
    use = used_between(descendants(), start, end)
    samples = [process.receive(WINDOW_TIMEOUT_S) for process in processes]
    counted = [each for worker, each in zip(arm.workers, samples) if worker.counted]
    beside_per_s = sum(each.per_s for worker, each in zip(arm.workers, samples) if not worker.counted)
    window = Window.of(counted, use.seconds, use.cpu_s, use.others)
    if not len(window.taken_ns):
        raise BrokerError("no answer came in a whole window")
    batches = Counter(arm.batches()) - before
    return {
        "window": RateWindow.of(window, beside_per_s, dict(sorted(batches.items()))),
        "checked": sum(each.checked for each in samples),
    }


if __name__ == "__main__":
    main(serve)
