"""A server for test_peers.py that does not start."""

from __future__ import annotations

import sys

from benchmarks.peers.place import ServerPlace
from tests.process.peer_servers import connect, preload

__all__ = ["connect", "preload", "serve"]


def serve(place: ServerPlace) -> None:
    sys.exit("the licence has expired")
