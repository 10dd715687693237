"""Dask distributed: tasks in many worker processes, one broker a node.

    pip install "dask[distributed]"
    python dask_app.py

A real cluster needs nothing else: each node's first task starts that node's broker. The model's files are on a shared
disk, or came to the nodes by `dask.distributed.UploadDirectory`.
"""

# ruff: noqa: INP001, T201

import os

import numpy as np
from dask.distributed import Client, LocalCluster

from worker_client import node

MODELS = {"mean": os.environ.get("MODEL", "example_model:mean")}
ROWS = np.arange(4000, dtype="float32").reshape(1000, 4)


def means_of(rows: np.ndarray) -> tuple[np.ndarray, int, str]:
    client = node.shared(MODELS, idle_seconds=float(os.environ.get("IDLE_SECONDS", "120")))
    return client.model("mean").predict(rows), os.getpid(), client.address


def main() -> None:
    batches = np.split(ROWS, 100)
    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=3, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster) as dask,
    ):  # type: ignore[no-untyped-call]
        found = dask.gather(dask.map(means_of, batches))  # type: ignore[no-untyped-call]
    assert all(np.allclose(y[:, 0], x.mean(axis=1)) for (y, _, _), x in zip(found, batches, strict=True))
    processes, brokers = ({answer[place] for answer in found} for place in (1, 2))
    print(f"tasks: {len(ROWS)} right answers, {len(processes)} processes, {len(brokers)} broker")


if __name__ == "__main__":
    main()
