"""Slow clients of the endpoint lock no others out, and use a limited number of threads; the answers to each method."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partialmethod
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from prometheus_client import CollectorRegistry

from broker.observe import http as endpoint
from broker.observe.health import Health
from broker.observe.http import MetricsEndpoint
from broker.observe.page.view import View

NO_VIEW = View("0", dict, dict)
"""Of no broker: what is asked here is answered without it."""


@pytest.fixture
def address() -> Iterator[str]:
    made = MetricsEndpoint("127.0.0.1", 0)
    made.start(CollectorRegistry(), Health({}), NO_VIEW)
    yield made.addresses[0]
    made.close()


def test_many_slow_clients(address: str) -> None:
    """Three times as many as are served at a time, none of which says all it has to: the oldest give way."""
    before = threading.active_count()
    host, _, port = address.removeprefix("http://").partition(":")
    with ExitStack() as stack:
        for _ in range(3 * endpoint._MOST):
            client = stack.enter_context(socket.create_connection((host, int(port))))
            client.send(b"GET /metr")
        with urlopen(f"{address}/metrics", timeout=30) as answer:
            assert answer.status == 200
        assert threading.active_count() - before <= endpoint._MOST + 1
    with urlopen(f"{address}/metrics", timeout=30) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("path", ["/metrics", "/livez"])
def test_a_head_is_a_get_without_its_body(address: str, path: str) -> None:
    """And the server's versions are told to nobody."""
    with (
        urlopen(f"{address}{path}", timeout=30) as full,
        urlopen(Request(f"{address}{path}", method="HEAD")) as head,
    ):
        assert int(head.headers["Content-Length"]) == len(full.read())
        assert head.read() == b""
        assert full.headers["Server"] == head.headers["Server"] == "onesession"


@pytest.mark.timeout(60)
def test_the_end_waits_for_no_poll(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thread that looks only once an hour; with a client that says nothing."""
    hourly = partialmethod(endpoint._Server.serve_forever, poll_interval=3600)
    monkeypatch.setattr(endpoint._Server, "serve_forever", hourly)
    made = MetricsEndpoint("127.0.0.1", 0, str(tmp_path / "metrics"))
    made.start(CollectorRegistry(), Health({}), NO_VIEW)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(tmp_path / "metrics"))
        with urlopen(f"{made.addresses[0]}/livez", timeout=30) as answer:
            assert answer.status == 200
        made.close()
