"""Functions that call the broker which runs them, each in another way, once they are asked for something."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import worker_client
import worker_client.aio
from broker import signature

ADDRESS = "TEST_OWN_BROKER"
"""The variable that has the broker's address."""
LINK = "TEST_LINK_TO_BROKER"
"""And another path of it."""
TIMEOUT_S = 20.0

IO: dict[str, Any] = {"inputs": {"x": ("float32", [None])}, "outputs": {"y": ("float32", [None])}}

made_at_import: list[worker_client.Client] = []
if ADDRESS in os.environ:
    made_at_import.append(worker_client.connect(os.environ[ADDRESS], timeout=TIMEOUT_S))


def asking(call: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], np.ndarray]:
    """A model that makes this call. Warm-up, which has zeros, asks for nothing."""

    @signature(**IO)
    def model(x: np.ndarray) -> np.ndarray:
        return np.asarray(call(x)) if x.any() else x

    return model


def connect() -> worker_client.Client:
    return worker_client.connect(os.environ[ADDRESS], timeout=TIMEOUT_S)


@signature(**IO)
def innocent(x: np.ndarray) -> np.ndarray:
    return x * 2


def _predict(x: np.ndarray) -> Any:
    with connect() as client:
        return client.model("innocent").predict(x)


def _by_variable(x: np.ndarray) -> Any:
    os.environ["BROKER_ADDRESS"] = os.environ[ADDRESS]
    with worker_client.connect(timeout=TIMEOUT_S) as client:
        return client.model("innocent").predict(x)


def _by_another_path(x: np.ndarray) -> Any:
    with worker_client.connect(os.environ[LINK], timeout=TIMEOUT_S) as client:
        return client.model("innocent").predict(x)


def _with_a_client_made_at_import(x: np.ndarray) -> Any:
    return made_at_import[0].model("innocent").predict(x)


def _submit(x: np.ndarray) -> Any:
    with connect() as client:
        return client.model("innocent").submit(x).result()


def _in_place(x: np.ndarray) -> Any:
    with connect() as client, client.model("innocent").request(rows=len(x)) as request:
        request["x"] = x
        return request.run()["y"]


def _models(x: np.ndarray) -> Any:
    with connect() as client:
        return [len(client.models())]


def _in_a_thread(x: np.ndarray) -> Any:
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(_predict, x).result()


def _in_a_loop(x: np.ndarray) -> Any:
    async def predict() -> Any:
        async with worker_client.aio.connect(os.environ[ADDRESS], timeout=TIMEOUT_S) as client:
            return await client.model("innocent").predict(x)

    return asyncio.run(predict())


predict = asking(_predict)
by_variable = asking(_by_variable)
by_another_path = asking(_by_another_path)
with_a_client_made_at_import = asking(_with_a_client_made_at_import)
submit = asking(_submit)
in_place = asking(_in_place)
models = asking(_models)
in_a_thread = asking(_in_a_thread)
in_a_loop = asking(_in_a_loop)


def with_a_client_of_its_factory() -> Callable[[np.ndarray], np.ndarray]:
    client = connect()
    return asking(lambda x: client.model("innocent").predict(x))


def while_it_loads() -> Callable[[np.ndarray], np.ndarray]:
    _predict(np.ones(1, np.float32))
    return innocent


WAYS = (
    "predict",
    "by_variable",
    "by_another_path",
    "with_a_client_made_at_import",
    "submit",
    "in_place",
    "models",
    "in_a_thread",
    "in_a_loop",
    "with_a_client_of_its_factory",
)
