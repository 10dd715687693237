"""All peers, by name, in the order in which they are measured: cheap ones first."""

from __future__ import annotations

from benchmarks.peers.local import LOCAL
from benchmarks.peers.other_system import OtherSystem
from benchmarks.peers.servers import (
    bentoml_http,
    grpc_prediction,
    gunicorn_dirty,
    litserve_http,
    mosec_http,
    ray_serve,
    triton,
)

PEERS: dict[str, OtherSystem] = {
    peer.name: peer
    for peer in (
        *LOCAL,
        gunicorn_dirty.PEER,
        grpc_prediction.PEER,
        mosec_http.PEER,
        litserve_http.PEER,
        bentoml_http.PEER,
        ray_serve.PEER,
        triton.PEER,
    )
}
