"""gRPC with TensorFlow Serving's PredictionService: its own stubs, in front of a server in Python.

What is measured is the protocol as TensorFlow Serving's clients speak it (a `TensorProto` each way), over a Unix
socket, which is quicker than loopback TCP. TensorFlow Serving itself does not come from PyPI.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.peers.other_system import OtherSystem
from benchmarks.peers.place import ServerPlace
from benchmarks.peers.servers.way import Call, way

_THREADS = 8
_MODEL = "model"
_LARGEST = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def serve(place: ServerPlace) -> None:
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    run = place.callable()

    class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the service's name
            answer = run(_array(request.inputs["x"]))
            response = predict_pb2.PredictResponse()
            _fill(response.outputs["y"], answer)
            return response

    server = grpc.server(ThreadPoolExecutor(_THREADS), options=_LARGEST)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Servicer(), server)
    server.add_insecure_port(f"unix:{place.socket}")
    server.start()
    try:
        signal.pause()
    finally:
        server.stop(None)


def preload() -> None:
    import grpc  # noqa: F401 - no channel is open yet, so that forking is safe
    from tensorflow_serving.apis import prediction_service_pb2_grpc  # noqa: F401


@contextmanager
def connect(place: ServerPlace) -> Iterator[Call]:
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    with grpc.insecure_channel(f"unix:{place.socket}", options=_LARGEST) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict

        def call(x: np.ndarray) -> np.ndarray:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = _MODEL
            _fill(request.inputs["x"], x)
            return _array(predict(request, timeout=30.0).outputs["y"])

        yield call


def _fill(proto: Any, array: np.ndarray) -> None:
    """Fill the proto as `tf.make_tensor_proto` does, without its checks, which cost more than the copy."""
    from tensorflow.core.framework import types_pb2

    proto.dtype = types_pb2.DT_FLOAT
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    proto.tensor_content = array.tobytes()


def _array(proto: Any) -> np.ndarray:
    return np.frombuffer(proto.tensor_content, np.float32).reshape(
        [each.size for each in proto.tensor_shape.dim]
    )


PEER = OtherSystem(
    "grpc",
    "gRPC PredictionService",
    (way("grpc", "gRPC PredictionService, Unix socket", connect),),
    requirements=("tensorflow-serving-api==2.21.0", "grpcio==1.85.1"),
    dependencies=False,  # they name `tensorflow`, and ours may be `tensorflow-cpu`
    notes=("gRPC: the stubs import TensorFlow in every worker; here before the fork.",),
)
