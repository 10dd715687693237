"""The page at the metrics' address, of real brokers over HTTP; how a browser shows it is in test_page_browser.py."""

from __future__ import annotations

import html
import http.client
import json
import re
import socket
import subprocess
import sys
import threading
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from broker.observe.page.view import TooBusy, View
from tests.brokers import TestBroker, serving, wait_until
from tests.process import odd_names
from worker_client import Client

MODELS = ("double", "mixed", "constant", "gated_inline")
ODD = {"odd": "tests.process.odd_names:odd", "types": "tests.process.odd_names:types"}
OPTIONS = {"metrics_port": 0, "models": ODD}


def request(
    broker: TestBroker, path: str, method: str = "GET", host: str = ""
) -> tuple[http.client.HTTPResponse, bytes]:
    (address,) = broker.status()["metrics"]
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    try:
        connection.request(method, path, headers={"Host": host} if host else {})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def page(broker: TestBroker) -> str:
    response, body = request(broker, "/")
    assert response.status == 200
    return body.decode()


def status(broker: TestBroker) -> dict[str, Any]:
    response, body = request(broker, "/status.json")
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
    return dict(json.loads(body))


class Reader(HTMLParser):
    """Elements and text; complains about what is not closed."""

    VOID = ("meta", "link", "br", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.codes: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "code":
            self.codes.append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "code":
            self.codes[-1] += data


def test_it_shows_what_the_broker_does(broker: TestBroker, client: Client) -> None:
    """Models, signatures, workers and links, with the figures of what was sent."""
    for _ in range(50):
        client.model("double").predict(np.ones((3, 4), np.float32))
    text = wait_until(lambda: "<td" in (got := page(broker)) and got, "a worker")
    reader = Reader(text)
    links = {attributes.get("href") for tag, attributes in reader.elements if tag == "a"}
    assert {"metrics", "livez", "readyz", "status.json"} <= links
    assert "x: float32[?, 4]" in reader.codes
    for what in (*MODELS, *ODD, "AVAILABLE", "joined, up to 64 rows a run", "kept apart: it takes no inputs"):
        assert what in text
    wait_until(lambda: any(each["requests"] for each in status(broker)["signatures"]), "figures")
    told = status(broker)
    (worker,) = told["workers"]
    assert worker["title"]
    (double,) = [each for each in told["signatures"] if each["model"] == "double"]
    assert {"requests_per_second", "us", "light", "why"} <= double.keys()
    assert told["models"]["double"]["versions"][0]["state"] == "AVAILABLE"
    assert "source" not in json.dumps(told["models"])


def test_a_cell_of_the_page_is_a_text_of_the_json(broker: TestBroker) -> None:
    """With the same number, and nothing of the shape depends on the texts."""
    wait_until(lambda: not status(broker)["workers"], "the end of other tests' workers")
    text, told = page(broker), status(broker)
    numbers = re.findall(r'data-cell="(\d+)"', text)
    assert sorted(map(int, numbers)) == list(range(len(told["page"]["cells"])))
    assert f'data-shape="{told["page"]["shape"]}"' in text
    wait_until(lambda: status(broker)["page"]["cells"] != told["page"]["cells"], "another second")
    assert status(broker)["page"]["shape"] == told["page"]["shape"]


def test_what_a_browser_may_do_with_it(broker: TestBroker) -> None:
    """Nothing but what is in the page; it is stored nowhere, and refreshes itself also without its script."""
    response, body = request(broker, "/")
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    reader = Reader(body.decode())
    for tag, attributes in reader.elements:
        assert "src" not in attributes
        assert tag != "link" or attributes["href"] == "data:,"
        assert not any(name.startswith("on") for name in attributes)
    assert ("meta", {"http-equiv": "refresh", "content": "5"}) in reader.elements


def test_names_are_text(broker: TestBroker) -> None:
    """Whatever is in them."""
    text = page(broker)
    assert "<script>document" not in text
    assert "<img" not in text
    assert html.escape(odd_names.INPUT) in text
    assert html.escape(odd_names.OUTPUT) in text


@pytest.mark.parametrize("model", ["double", "mixed", "constant", "odd", "types"])
def test_the_lines_of_python_run(broker: TestBroker, model: str) -> None:
    """As they stand there, for any names and dtypes."""
    (code,) = [
        code
        for code in Reader(page(broker)).codes
        if f'client.model("{model}")' in code and "predict" in code
    ]
    last = "\nfor name in answer: print(answer[name].shape)"
    done = subprocess.run(
        [sys.executable, "-c", code + last], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(re.findall(r"^answer\[", code, re.MULTILINE)) > 0


@pytest.mark.parametrize("path", ["/", "/status.json"])
def test_heads_and_other_methods(broker: TestBroker, path: str) -> None:
    head, nothing = request(broker, path, "HEAD")
    assert (head.status, nothing) == (200, b"")
    assert int(head.headers["Content-Length"]) > 100
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
        response, text = request(broker, path, method)
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD"), text
    response, text = request(broker, "/status")
    assert response.status == 404
    assert b"/status.json" in text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "x"])
def test_a_site_that_leads_here_reads_nothing(broker: TestBroker, host: str) -> None:
    """A name of elsewhere at a loopback address is refused, with the address to use; metrics and health are for all."""
    for path in ("/", "/status.json"):
        response, body = request(broker, path, host=host)
        assert response.status == 421
        assert body.decode().strip().endswith(broker.status()["metrics"][0])
    assert request(broker, "/metrics", host=host)[0].status == 200


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:9", "LOCALHOST", "a.localhost", "[::1]:80", "192.168.1.2"]
)
def test_numbers_and_localhost_are_let_in(broker: TestBroker, host: str) -> None:
    assert request(broker, "/", host=host)[0].status == 200


def test_a_client_that_does_not_read_blocks_nobody(broker: TestBroker) -> None:
    """Many that ask for the page and read nothing of it; the page and the metrics are there for others."""
    host, _, port = broker.status()["metrics"][0].removeprefix("http://").rpartition(":")
    clients = [socket.create_connection((host, int(port))) for _ in range(20)]
    try:
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert request(broker, "/metrics")[0].status == 200
        assert page(broker)
    finally:
        for client in clients:
            client.close()


def test_the_page_is_there_while_the_intake_hangs(broker: TestBroker, client: Client) -> None:
    """It takes no lock of a request's way."""
    blocked = client.model("gated_inline").submit({"number": np.array(4), "x": np.float32(0)}, timeout=60)
    broker.gate.wait_for(4)
    try:
        assert "gated_inline" in page(broker)
    finally:
        broker.gate.open(4)
    blocked.result(60)


def test_one_at_a_time() -> None:
    """Where putting it together does not end, others are told so and do not pile up."""
    entered, go = threading.Event(), threading.Event()

    def statistics() -> dict[str, Any]:
        entered.set()
        go.wait(60)
        raise KeyError("no broker")

    def first_page(view: View) -> None:
        with pytest.raises(KeyError):
            view.page()

    view = View("0", statistics, dict)
    first = threading.Thread(target=first_page, args=(view,))
    first.start()
    try:
        assert entered.wait(60)
        with pytest.raises(TooBusy):
            view.message()
    finally:
        go.set()
        first.join()


def test_at_a_unix_socket() -> None:
    """For tools such as curl; the page says with which options."""
    with serving("double") as probe:
        path = probe.gate.folder / "metrics"
        with serving("double", metrics_socket=str(path)) as broker, socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: sock.recv(4096), b"")).decode()
            assert f"curl -s --unix-socket {path} http://localhost/metrics" in answer
            assert f"onesession top --name {broker.address}" in answer
