"""BentoML: HTTP taken by uvicorn in the service's own process. Bodies are JSON numbers: it takes no raw ones from
outside, and refuses its own pickle from there.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks.peers.http_client import posting
from benchmarks.peers.other_system import OtherSystem
from benchmarks.peers.place import HOST, ServerPlace
from benchmarks.peers.servers.way import Call, way

_SERVICE = "benchmarks.peers.servers.bentoml_app:BentoModel"


def serve(place: ServerPlace) -> None:
    os.environ |= {
        "ONESESSION_PEER_PLACE": place.to_json(),
        "BENTOML_HOME": place.directory,
        "BENTOML_DO_NOT_TRACK": "true",
    }
    listen = ["--host", HOST, "--port", str(place.ports[0]), "--timeout", "30"]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", _SERVICE, *listen])


def preload() -> None:
    """Nothing: the workers speak HTTP over a socket."""


@contextmanager
def connect(place: ServerPlace) -> Iterator[Call]:
    with posting(place.ports[0], "/predict", "application/json") as post:

        def call(x: np.ndarray) -> np.ndarray:
            return np.array(json.loads(post(json.dumps({"x": x.tolist()}).encode())), np.float32)

        yield call


PEER = OtherSystem(
    "bentoml", "BentoML", (way("bentoml", "BentoML, HTTP", connect),), requirements=("bentoml==1.4.39",)
)
