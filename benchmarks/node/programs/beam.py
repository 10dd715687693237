"""A row of mlp by Beam's MultiProcessShared, or by the node's broker: one process, then so many at once."""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import time
from multiprocessing import Pipe

import numpy as np
from apache_beam.utils.multi_process_shared import MultiProcessShared

from benchmarks.models.mlp import mlp_answer
from benchmarks.node.programs.predictors import PER_WORKER, Predict, predictor

X = np.random.default_rng(1).normal(size=(1, 128)).astype(np.float32)


class Shared:
    """The object that MultiProcessShared keeps in one process."""

    def __init__(self, model: str) -> None:
        self._predict = predictor(PER_WORKER, model, 0)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self._predict(x)


class Maker:
    def __init__(self, model: str) -> None:
        self._model = model

    def __call__(self) -> Shared:
        return Shared(self._model)


def of_arm(arm: str, model: str, idle_seconds: float) -> Predict:
    if arm != PER_WORKER:
        return predictor(arm, model, idle_seconds)
    shared = MultiProcessShared(
        Maker(model), tag="mlp", path=os.environ["TMPDIR"], always_proxy=True, spawn_process=True
    )
    proxy = shared.acquire()
    return proxy.predict  # type: ignore[no-any-return]


def calls(predict: Predict, seconds: float) -> list[float]:
    """What each took."""
    expected = mlp_answer(X)
    limit, taken = time.perf_counter() + seconds, []
    while (begun := time.perf_counter()) < limit:
        y = predict(X)
        taken.append(time.perf_counter() - begun)
        assert np.abs(y - expected).max() < 1e-5, "a wrong answer"
    return taken


def at_once(arm: str, model: str, idle_seconds: float, processes: int, seconds: float) -> int:
    """How many calls all of them get through."""
    pipes = []
    for _ in range(processes):
        ours, theirs = Pipe()
        if os.fork() == 0:
            ours.close()
            status = 1
            try:
                predict = of_arm(arm, model, idle_seconds)
                predict(X)
                theirs.send("ready")
                theirs.recv()
                theirs.send(len(calls(predict, seconds)))
                status = 0
            finally:
                os._exit(status)
        theirs.close()
        pipes.append(ours)
    for step in (lambda pipe: pipe.recv(), lambda pipe: pipe.send("go")):
        for pipe in pipes:
            step(pipe)
    return sum(pipe.recv() for pipe in pipes)


def main(arm: str, model: str, processes: int, seconds: int, idle_seconds: int) -> None:
    reader, writer = os.pipe()
    holder = os.fork()  # keeps the shared object; its own clients are not forked
    if holder == 0:
        predict = of_arm(arm, model, idle_seconds)
        calls(predict, 0.5)
        alone = statistics.median(calls(predict, seconds))
        os.write(writer, json.dumps(alone).encode())
        signal.pause()
    alone = json.loads(os.read(reader, 100))
    rate = at_once(arm, model, idle_seconds, processes, seconds) / seconds
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    print(json.dumps({"row": alone, "calls": rate}))


if __name__ == "__main__":
    arm, model, *numbers = sys.argv[1:]
    main(arm, model, *map(int, numbers))
