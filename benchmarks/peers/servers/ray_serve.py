"""Ray Serve: HTTP taken by its proxy, which asks the replica with the model. Bodies are raw tensors."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.peers.http_client import posting
from benchmarks.peers.other_system import OtherSystem
from benchmarks.peers.place import HOST, ServerPlace
from benchmarks.peers.servers.way import Call, way

_OBJECT_STORE_BYTES = 80_000_000
_AT_A_TIME = 64


def serve(place: ServerPlace) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray import serve as serving
    from starlette.responses import Response

    @serving.deployment(num_replicas=1, max_ongoing_requests=_AT_A_TIME)
    class RayModel:
        def __init__(self, place: ServerPlace) -> None:
            self._place = place
            self._run = place.callable()

        async def __call__(self, request: Any) -> Response:
            answer = self._run(self._place.rows(await request.body()))
            return Response(answer.tobytes(), media_type="application/octet-stream")

    ray.init(
        include_dashboard=False,
        _temp_dir=place.directory,
        _node_ip_address=HOST,
        object_store_memory=_OBJECT_STORE_BYTES,
        log_to_driver=False,
    )
    try:
        serving.start(http_options={"host": HOST, "port": place.ports[0], "access_log": False})
        serving.run(RayModel.bind(place))
        signal.pause()
    finally:
        serving.shutdown()
        ray.shutdown()


def preload() -> None:
    """Nothing: the workers speak HTTP over a socket."""


@contextmanager
def connect(place: ServerPlace) -> Iterator[Call]:
    with posting(place.ports[0], "/", "application/octet-stream") as post:
        yield lambda x: place.answers(post(x.tobytes()))


PEER = OtherSystem(
    "ray-serve",
    "Ray Serve",
    (way("ray_serve", "Ray Serve, HTTP", connect),),
    requirements=("ray[serve]==2.60.0",),
)
