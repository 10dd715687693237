"""Handles that go to other processes as arguments, one way of starting those a run: what test_copies.py looks at.

A program of its own, for forkservers and joblib leave processes behind until the interpreter ends.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
from typing import Any

import numpy as np

import worker_client
from worker_client import Client, Model, aio

PROCESSES = 2
TASKS = 12


def row(number: int) -> dict[str, np.ndarray]:
    return {"x": np.full((1, 4), number, np.float32), "row": np.array([number])}


def is_right(answer: Any, number: int) -> bool:
    return bool((answer["y"] == 3 * number).all())


def call(model: Model, number: int) -> tuple[bool, int]:
    """Whether the answer is right, and the process that got it."""
    return is_right(model.predict(row(number), timeout=60), number), os.getpid()


def pool(client: Client, method: str) -> list[tuple[bool, int]]:
    model = client.model("tell")
    with multiprocessing.get_context(method).Pool(PROCESSES) as made:
        found: list[tuple[bool, int]] = made.starmap(call, [(model, number) for number in range(TASKS)])
        for pid in {pid for _, pid in found}:
            assert attached(client).count(pid) <= 1, "a channel for each copy"
        made.close()
        made.join()
    return found


def loky(client: Client) -> list[tuple[bool, int]]:
    from joblib import Parallel, delayed

    model = client.model("tell")
    answers = Parallel(PROCESSES)(delayed(model.predict)(row(number)) for number in range(TASKS))
    return [(is_right(answer, number), 0) for number, answer in enumerate(answers)]


def closure(client: Client) -> list[tuple[bool, int]]:
    """As PySpark and Dask send functions: pickled by value once, unpickled for each task."""
    import cloudpickle

    model = client.model("tell")
    sent = cloudpickle.dumps(lambda number: is_right(model.predict(row(number)), number))
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as made:
        found = made.map(run_sent, [(sent, number) for number in range(TASKS)])
        made.close()
        made.join()
    return found


def run_sent(task: tuple[bytes, int]) -> tuple[bool, int]:
    return pickle.loads(task[0])(task[1]), os.getpid()


async def in_a_loop(model: aio.AsyncModel, number: int) -> bool:
    return is_right(await model.predict(row(number)), number)


def call_in_a_loop(model: aio.AsyncModel, number: int) -> tuple[bool, int]:
    import asyncio

    return asyncio.run(in_a_loop(model, number)), os.getpid()


def loops(client: Client) -> list[tuple[bool, int]]:
    model = aio.connect(client.address).model("tell")
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as made:
        found = made.starmap(call_in_a_loop, [(model, number) for number in range(TASKS)])
        made.close()
        made.join()
    return found


def attached(client: Client) -> list[int]:
    from tests.brokers import ask

    return [worker["pid"] for worker in ask(client.address, "status")["status"]["workers"]]


def main(way: str, address: str) -> None:
    with worker_client.connect(address) as client:
        assert call(client.model("tell"), 1)[0]  # this process has a channel when the handles go out
        ways = {"loky": loky, "closure": closure, "loops": loops}
        found = ways[way](client) if way in ways else pool(client, way)
        assert len(found) == TASKS
        assert all(right for right, _ in found)
        assert call(client.model("tell"), 2)[0]
    print("right")


if __name__ == "__main__":
    main(*sys.argv[1:])
