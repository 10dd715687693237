"""Servers for test_peers.py, as `benchmarks/peers/servers` has them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np

from benchmarks.peers.http_client import posting
from benchmarks.peers.place import HOST, ServerPlace

PIDS = "PEER_TEST_PIDS"
"""Names the file that the server's processes write their ids to."""


def serve(place: ServerPlace) -> None:
    """With a child that SIGTERM does not end, and that outlives its parent."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            signal.pause()
    Path(os.environ[PIDS]).write_text(f"{os.getpid()} {child}")
    run = place.callable()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            answer = run(place.rows(self.rfile.read(int(self.headers["Content-Length"])))).tobytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    HTTPServer((HOST, place.ports[0]), Handler).serve_forever()


def preload() -> None:
    pass


@contextmanager
def connect(place: ServerPlace) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    with posting(place.ports[0], "/", "application/octet-stream") as post:
        yield lambda x: place.answers(post(x.tobytes()))


@contextmanager
def connect_wrongly(place: ServerPlace) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    with connect(place) as call:
        yield lambda x: call(x) + 1
