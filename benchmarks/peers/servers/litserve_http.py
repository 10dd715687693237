"""LitServe: HTTP taken by uvicorn, a queue to the model's process and one back. Bodies are raw tensors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.peers.http_client import posting
from benchmarks.peers.peer import Peer
from benchmarks.peers.place import Place
from benchmarks.peers.servers.way import Call, way


def serve(place: Place) -> None:
    os.environ["ONESESSION_PEER_PLACE"] = place.to_json()
    os.execv(sys.executable, [sys.executable, "-m", "benchmarks.peers.servers.litserve_app"])


def preload() -> None:
    """Nothing: the workers speak HTTP over a socket."""


@contextmanager
def connect(place: Place) -> Iterator[Call]:
    with posting(place.ports[0], "/predict", "application/octet-stream") as post:
        yield lambda x: place.answers(post(x.tobytes()))


PEER = Peer(
    "litserve", "LitServe", (way("litserve", "LitServe, HTTP", connect),), requirements=("litserve==0.2.19",)
)
