"""LitServe: HTTP taken by uvicorn, a queue to the model's process and one back. Bodies are raw tensors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.peers.http_client import posting
from benchmarks.peers.other_system import OtherSystem
from benchmarks.peers.place import ServerPlace
from benchmarks.peers.servers.way import Call, way


def serve(place: ServerPlace) -> None:
    os.environ["ONESESSION_PEER_PLACE"] = place.to_json()
    os.execv(sys.executable, [sys.executable, "-m", "benchmarks.peers.servers.litserve_app"])


def preload() -> None:
    """Nothing: the workers speak HTTP over a socket."""


@contextmanager
def connect(place: ServerPlace) -> Iterator[Call]:
    with posting(place.ports[0], "/predict", "application/octet-stream") as post:
        yield lambda x: place.answers(post(x.tobytes()))


PEER = OtherSystem(
    "litserve", "LitServe", (way("litserve", "LitServe, HTTP", connect),), requirements=("litserve==0.2.19",)
)
