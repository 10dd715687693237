"""Mosec: HTTP taken by a server in Rust, which asks the model's process over a Unix socket. Bodies are raw tensors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.peers.http_client import posting
from benchmarks.peers.other_system import OtherSystem
from benchmarks.peers.place import HOST, ServerPlace
from benchmarks.peers.servers.way import Call, way

_PLACE = "ONESESSION_PEER_PLACE"


def serve(place: ServerPlace) -> None:
    """Run a script of its own: mosec starts its workers by importing the main module again."""
    os.environ[_PLACE] = place.to_json()
    arguments = [
        *("--address", HOST, "--port", str(place.ports[0]), "--path", f"{place.directory}/ipc"),
        *("--timeout", "30000", "--log-level", "warning"),
    ]
    os.execv(sys.executable, [sys.executable, "-m", "benchmarks.peers.servers.mosec_app", *arguments])


def preload() -> None:
    """Nothing: the workers speak HTTP over a socket."""


@contextmanager
def connect(place: ServerPlace) -> Iterator[Call]:
    with posting(place.ports[0], "/inference", "application/octet-stream") as post:
        yield lambda x: place.answers(post(x.tobytes()))


PEER = OtherSystem("mosec", "Mosec", (way("mosec", "Mosec, HTTP", connect),), requirements=("mosec==0.9.8",))
