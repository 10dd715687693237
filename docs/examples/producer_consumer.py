"""A producer and a consumer around a model: items come from a thread, go through the model, are dealt with in order.

    python docs/examples/producer_consumer.py

What this replaces: a `multiprocessing.Pool` or a pipeline of Queues with a TensorFlow session in each process,

    with Pool(8, initializer=load_model) as pool:        # 8 imports of TensorFlow, 8 copies of the weights
        for label in pool.imap(classify, items):         # each item pickled, each answer pickled
            ...

Here the one session is the broker's. `model.map` keeps several items in flight, so that the broker can batch them; it
takes items only as answers are used, so that a producer of any length needs no more memory than a short one.
"""

# ruff: noqa: INP001, T201

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import numpy as np

import broker
import worker_client

ITEMS = 1_000
IN_FLIGHT = 16
_END = None


@broker.signature(
    inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 1])}, independent_rows=True
)
def mean(x: np.ndarray) -> np.ndarray:
    """Stands for a model, so that this runs without TensorFlow; a SavedModel's directory would do as well."""
    return x.mean(axis=1, keepdims=True)


def produce(items: queue.Queue[np.ndarray | None]) -> None:
    """The producer's thread: reads a file, a camera, a socket. It waits while the queue is full."""
    rng = np.random.default_rng(0)
    for _ in range(ITEMS):
        items.put(rng.random((1, 4), np.float32))
    items.put(_END)


def received(items: queue.Queue[np.ndarray | None]) -> Iterator[np.ndarray]:
    """What the producer puts, until it ends. `map` takes any iterable: a generator alone would do as well."""
    while (item := items.get()) is not _END:
        yield item


def consume(address: str) -> tuple[int, float]:
    """The worker: how many answers came, and their sum."""
    items: queue.Queue[np.ndarray | None] = queue.Queue(maxsize=64)
    producer = threading.Thread(target=produce, args=(items,), daemon=True)
    producer.start()
    count, total = 0, 0.0
    with worker_client.connect(address) as client:
        for answer in client.model("mean").map(received(items), max_in_flight=IN_FLIGHT):
            count += 1  # in the order of the items
            total += float(answer[0, 0])
    producer.join()
    return count, total


def main() -> None:
    # The module by its name: the broker imports it in a process of its own.
    with broker.Broker(models={"mean": "producer_consumer:mean"}, name="producer-consumer") as running:
        count, total = consume(running.address)
    print(f"{count} answers, on average {total / count:.3f}")


if __name__ == "__main__":
    main()
