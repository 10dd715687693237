"""Celery with its prefork pool. `onesession run` is the parent of the worker:

    export TASKS=$(mktemp -d)      # the queue: a folder, so that this runs without a Redis or RabbitMQ
    onesession run --model mean=example_model:mean -- celery --app celery_app worker --concurrency 4
    python celery_app.py           # elsewhere, with the same TASKS: sends tasks, and checks the answers

What changes in the app: the module makes the handle when it is imported, before Celery forks. The model that was loaded
in a `worker_process_init` handler, once for each process of the pool, goes away with the handler. Celery's time limits
come out of a waiting call as they do anywhere else.
"""

# ruff: noqa: INP001, T201

import os
from pathlib import Path

import numpy as np
from celery import Celery

import worker_client

folder = Path(os.environ["TASKS"])
for name in ("queue", "results", "control"):
    (folder / name).mkdir(exist_ok=True)

app = Celery("celery_app", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.broker_transport_options = {
    "data_folder_in": folder / "queue",
    "data_folder_out": folder / "queue",
    "control_folder": folder / "control",
}

mean = worker_client.connect().model("mean")


@app.task(name="mean")
def mean_of(row: list[float]) -> list[float]:
    """The mean, and the process that asked for it."""
    return [float(mean.predict(np.array([row], dtype="float32"))[0, 0]), os.getpid()]


def main() -> None:
    tasks = [mean_of.delay([number, number, number, number]) for number in range(50)]
    answers = [task.get(timeout=60) for task in tasks]
    assert [answer for answer, _ in answers] == list(range(50))
    print(f"50 right answers from {len({pid for _, pid in answers})} processes")


if __name__ == "__main__":
    main()
