"""Ray: tasks, actors and Ray Data's `map_batches`, one broker a node.

    pip install "ray[data]"
    python ray_app.py

Ray listens on all interfaces and has no passwords: run it on a network of your own, or as the tests do in a network
namespace (`unshare -rn`). On a cluster the model's files come by `runtime_env={"working_dir": ...}` or a shared disk.
"""

# ruff: noqa: INP001, T201

import os

import numpy as np
import ray

from worker_client import Client, node

MODELS = {"mean": os.environ.get("MODEL", "example_model:mean")}
ROWS = np.arange(4000, dtype="float32").reshape(1000, 4)


def shared() -> Client:
    return node.shared(MODELS, idle_seconds=float(os.environ.get("IDLE_SECONDS", "120")))


@ray.remote
def means_of(rows: np.ndarray) -> tuple[np.ndarray, int, str]:
    client = shared()
    return client.model("mean").predict(rows), os.getpid(), client.address


@ray.remote
class Scorer:
    def __init__(self) -> None:
        self.client = shared()
        self.mean = self.client.model("mean")

    def means_of(self, rows: np.ndarray) -> tuple[np.ndarray, int, str]:
        return self.mean.predict(rows), os.getpid(), self.client.address


def add_means(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    means, pid, address = shared().model("mean").predict(batch["x"]), os.getpid(), shared().address
    return {
        **batch,
        "y": means[:, 0],
        "pid": np.full(len(means), pid),
        "broker": np.full(len(means), address),
    }


def tell(what: str, right: bool, processes: set[int], brokers: set[str]) -> None:
    assert right
    print(f"{what}: {len(ROWS)} right answers, {len(processes)} processes, {len(brokers)} broker")


def main() -> None:
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    batches = np.split(ROWS, 50)
    scorers = [Scorer.remote() for _ in range(2)]
    by_actors = [scorers[number % 2].means_of.remote(x) for number, x in enumerate(batches)]
    for what, asked in (("actors", by_actors), ("tasks", [means_of.remote(x) for x in batches])):
        found = ray.get(asked)
        right = all(np.allclose(y[:, 0], x.mean(axis=1)) for (y, _, _), x in zip(found, batches, strict=True))
        tell(what, right, {pid for _, pid, _ in found}, {broker for _, _, broker in found})
    del scorers
    data = ray.data.from_numpy(ROWS).rename_columns({"data": "x"}).repartition(20)
    rows = data.map_batches(add_means, batch_size=50).take_all()
    right = all(np.isclose(row["y"], row["x"].mean()) for row in rows) and len(rows) == len(ROWS)
    tell("map_batches", right, {row["pid"] for row in rows}, {row["broker"] for row in rows})
    ray.shutdown()


if __name__ == "__main__":
    main()
