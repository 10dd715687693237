"""The client that forked workers use. It needs numpy, posix_ipc and msgpack, and never TensorFlow.

client = worker_client.connect()
y = client.model("digits").predict(x)
y = await worker_client.aio.connect().model("digits").predict(x)
"""

import importlib
from types import ModuleType

from worker_client.attachment.metadata import ModelInfo
from worker_client.calls.timings import Timings
from worker_client.client import Client, connect
from worker_client.model import Model
from worker_client.request import Request, Result
from worker_client.session import Session
from worker_client.wire.errors import (
    BrokerError,
    BrokerUnavailable,
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    ModelNotFound,
    Overloaded,
)
from worker_client.wire.signature import Signature, TensorSpec
from worker_client.wire.version import __version__

__all__ = [
    "BrokerError",
    "BrokerUnavailable",
    "Client",
    "DeadlineExceeded",
    "InvalidInput",
    "Model",
    "ModelFailed",
    "ModelInfo",
    "ModelNotFound",
    "Overloaded",
    "Request",
    "Result",
    "Session",
    "Signature",
    "TensorSpec",
    "Timings",
    "__version__",
    "connect",
]


def __getattr__(name: str) -> ModuleType:
    """`worker_client.aio`, `otel`, `node`, `testing`: imported on first use, because importing asyncio takes time."""
    if name in ("aio", "otel", "node", "testing"):
        return importlib.import_module(f"worker_client.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "aio", "node", "otel", "testing"])
