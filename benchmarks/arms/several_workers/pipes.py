"""One process with the bare callable, and a `multiprocessing.Pipe` to each worker: everything is pickled, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

from benchmarks.arms.one_worker import pipe
from benchmarks.arms.one_worker.answering import answering
from benchmarks.harness.timed import ArmWorker, ArmWorkers
from benchmarks.workloads import Workload
from broker.bench.load.forks import forked


@contextmanager
def pipes(workload: Workload, workers: int, path: str | None, threads: int) -> Iterator[ArmWorkers]:
    pairs = [Pipe() for _ in range(workers)]
    with forked(_serve, [theirs for _, theirs in pairs], workload.name, path, threads):
        yield ArmWorkers(
            [ArmWorker(lambda end=ours: nullcontext(pipe.caller(end)), workload) for ours, _ in pairs]
        )
    for pair in pairs:
        for end in pair:
            end.close()


def _serve(connections: list[Connection], workload: str, path: str | None, threads: int) -> None:
    answer = answering(workload, path, threads)
    while True:
        for ready in wait(connections):
            ready.send(answer(ready.recv()))
