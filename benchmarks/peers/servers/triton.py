"""PyTriton: Triton's server in front of a Python process, asked over HTTP, gRPC, and with tensors in shared memory.

Its batcher is on, as it comes.
"""

from __future__ import annotations

import os
import signal
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.other_system import OtherSystem
from benchmarks.peers.place import HOST, ServerPlace
from benchmarks.peers.servers.way import Call, way

_MODEL = "model"
_LARGEST_BATCH = 64


def serve(place: ServerPlace) -> None:
    from pytriton.decorators import batch
    from pytriton.model_config import ModelConfig, Tensor
    from pytriton.triton import Triton, TritonConfig, TritonSecurityConfig

    _find_libpython()
    run = place.callable()

    @batch
    def infer(x: np.ndarray) -> list[np.ndarray]:
        return [run(x)]

    http, grpc, _ = place.ports
    config = TritonConfig(
        http_address=HOST,
        http_port=http,
        grpc_address=HOST,
        grpc_port=grpc,
        allow_metrics=False,
        exit_timeout_secs=2,
    )
    everybody = TritonSecurityConfig(restricted_endpoints=[])  # else shared memory asks for a token
    triton = Triton(config=config, workspace=f"{place.directory}/triton", security_config=everybody)
    triton.bind(
        _MODEL,
        infer,
        inputs=[Tensor(name="x", dtype=np.float32, shape=place.row)],
        outputs=[Tensor(name="y", dtype=np.float32, shape=place.answer)],
        config=ModelConfig(max_batch_size=_LARGEST_BATCH),
    )
    triton.run()
    try:
        signal.pause()
    finally:
        triton.stop()
        for left in Path("/dev/shm").glob(
            f"pytrtion{os.getpid()}-*"
        ):  # of its own child, which does not spell better
            left.unlink()


def _find_libpython() -> None:
    """Triton's Python stub loads libpython, which must be this interpreter's, not the system's of the same version."""
    folders = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")]
    os.environ["LD_LIBRARY_PATH"] = ":".join(folder for folder in folders if folder)


def preload() -> None:
    from tritonclient import grpc, http  # noqa: F401 - no client is open yet, so that forking is safe
    from tritonclient.utils import shared_memory  # noqa: F401


@contextmanager
def connect_http(place: ServerPlace) -> Iterator[Call]:
    from tritonclient import http

    with _client(http.InferenceServerClient(f"{HOST}:{place.ports[0]}")) as client:
        yield _binary(http, client, "x", "y")


@contextmanager
def connect_grpc(place: ServerPlace) -> Iterator[Call]:
    from tritonclient import grpc

    with _client(grpc.InferenceServerClient(f"{HOST}:{place.ports[1]}")) as client:
        yield _binary(grpc, client, "x", "y")


@contextmanager
def connect_shared_memory(place: ServerPlace) -> Iterator[Call]:
    """gRPC says where the tensors are, in two regions of the worker's own."""
    from tritonclient import grpc
    from tritonclient.utils import InferenceServerException, shared_memory

    x, y = np.zeros((1, *place.row), np.float32), np.zeros((1, *place.answer), np.float32)
    with _client(grpc.InferenceServerClient(f"{HOST}:{place.ports[1]}")) as client:
        if not client.is_model_ready(_MODEL):  # before there is a region to be cleaned up
            raise ConnectionError("the model is not ready")
        regions = {}
        try:
            for name, array in (("x", x), ("y", y)):
                region = f"onesession-{os.getpid()}-{name}"
                regions[name] = shared_memory.create_shared_memory_region(region, f"/{region}", array.nbytes)
                client.register_system_shared_memory(region, f"/{region}", array.nbytes)
            given = grpc.InferInput("x", list(x.shape), "FP32")
            given.set_shared_memory(f"onesession-{os.getpid()}-x", x.nbytes)
            wanted = grpc.InferRequestedOutput("y")
            wanted.set_shared_memory(f"onesession-{os.getpid()}-y", y.nbytes)

            def call(row: np.ndarray) -> np.ndarray:
                shared_memory.set_shared_memory_region(regions["x"], [row])
                client.infer(_MODEL, [given], outputs=[wanted])
                answer: np.ndarray = shared_memory.get_contents_as_numpy(regions["y"], np.float32, y.shape)
                return answer.copy()

            yield call
        finally:
            for region in regions.values():
                shared_memory.destroy_shared_memory_region(region)
            with suppress(InferenceServerException):  # it fails if the server is what has failed
                client.unregister_system_shared_memory()


@contextmanager
def _client(client: Any) -> Iterator[Any]:
    try:
        yield client
    finally:
        client.close()


def _binary(module: Any, client: Any, x_name: str, y_name: str) -> Call:
    """Tensors as bytes in the request and in the answer."""

    def call(x: np.ndarray) -> np.ndarray:
        given = module.InferInput(x_name, list(x.shape), "FP32")
        given.set_data_from_numpy(x)
        answer: np.ndarray = client.infer(_MODEL, [given]).as_numpy(y_name)
        return answer

    return call


PEER = OtherSystem(
    "triton",
    "PyTriton (Triton)",
    (
        way("triton_http", "Triton, HTTP", connect_http),
        way("triton_grpc", "Triton, gRPC", connect_grpc),
        way("triton_shared_memory", "Triton, gRPC + shared memory", connect_shared_memory),
    ),
    requirements=("nvidia-pytriton==0.7.0", "tritonclient[grpc,http]==2.73.0"),
)
