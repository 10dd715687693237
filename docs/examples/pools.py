"""multiprocessing.Pool and ProcessPoolExecutor, by fork, forkserver and spawn:

    python docs/examples/pools.py

What changes in the app: the pool's `initializer=load_model` goes away. The handle at the top of the module serves the
processes of every start method: forked ones inherit it, spawned ones import the module and so make their own; each
attaches at its first call. The address must be in the environment before a process is started.
"""

# ruff: noqa: INP001, T201

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np

import broker
import worker_client

PROCESSES = 2
ROWS = [[float(number)] * 4 for number in range(200)]

os.environ.setdefault("BROKER_ADDRESS", "pools")  # inherited by every process of every pool
mean = worker_client.connect().model("mean")


def mean_of(row: list[float]) -> float:
    return float(mean.predict(np.array([row], dtype="float32"))[0, 0])


def main() -> None:
    expected = [row[0] for row in ROWS]
    with broker.Broker(models={"mean": "example_model:mean"}, name=os.environ["BROKER_ADDRESS"]):
        assert mean_of(ROWS[7]) == 7  # attached here already: the processes still get channels of their own
        for method in ("fork", "forkserver", "spawn"):
            context = multiprocessing.get_context(method)
            with context.Pool(PROCESSES) as pool:
                assert pool.map(mean_of, ROWS) == expected
                pool.close()
                pool.join()
            with ProcessPoolExecutor(PROCESSES, mp_context=context) as executor:
                assert list(executor.map(mean_of, ROWS)) == expected
            print(f"{method}: {2 * len(ROWS)} right answers")


if __name__ == "__main__":
    main()
