"""The same rows twice, by tasks in so many workers of Ray."""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np
import ray

from benchmarks.node.programs import wide
from benchmarks.node.programs.predictors import predictor


@ray.remote
def predict(arm: str, model: str, idle_seconds: float, x: np.ndarray) -> tuple[np.ndarray, int]:
    return predictor(arm, model, idle_seconds)(x)[:, 0], os.getpid()


def main(arm: str, model: str, rows: int, workers: int, batch: int, idle_seconds: float) -> None:
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    try:
        batches = np.split(wide.inputs(np.arange(rows)), rows // batch)
        seconds, pids = [], set()
        for _ in range(2):
            begun = time.perf_counter()
            found = ray.get([predict.remote(arm, model, idle_seconds, x) for x in batches])
            seconds.append(time.perf_counter() - begun)
            y = np.concatenate([y for y, _ in found])
            assert np.allclose(y, wide.answers(np.arange(rows)), atol=1e-3), "a wrong answer"
            pids |= {pid for _, pid in found}
    finally:
        ray.shutdown()
    print(json.dumps({"first": seconds[0], "second": seconds[1], "workers": len(pids)}))


if __name__ == "__main__":
    arm, model, *numbers = sys.argv[1:]
    main(arm, model, *map(int, numbers))
