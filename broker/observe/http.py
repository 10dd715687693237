"""The HTTP endpoint: /metrics for Prometheus, /livez and /readyz (also as /healthz) for load balancers, and a page for
people with the same content as /status.json.

It takes its address before the models are loaded, so that an address in use is reported immediately, and answers from
the end of loading until the broker has stopped; before, connections are refused. Each connection has a thread. The
number of connections is limited: a new one ends the oldest, so that slow clients cannot exclude others.

A website that is open in a browser can have its own name resolve to a loopback address, and so read what is served
there (DNS rebinding). Therefore, at a loopback address, the page answers only requests whose Host is a number or
localhost. Metrics and health answer all requests: their clients are configured by name, and are not browsers."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import socket
import stat
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from broker.observe.health import Health
from worker_client.wire.errors import BrokerError

if TYPE_CHECKING:
    from broker.observe.page.view import View

_SOCKET_SECONDS = 5.0  # timeout for a client that does not send, or does not read
_BACKLOG = 64
_MOST = 16  # connections per server
_GIVING_WAY_SECONDS = 1.0


class MetricsEndpoint:
    """The endpoint. `port` 0 takes any free port. `path` is the path of a Unix socket, for the broker's own user.
    Raises BrokerError."""

    def __init__(self, host: str = "", port: int | None = None, path: str | None = None) -> None:
        self._servers: list[_Server] = []
        self._threads: list[threading.Thread] = []
        try:
            if port is not None:
                self._servers.append(_Server(_bound(host, port)))
            if path is not None:
                self._servers.append(_Server(_bound_at(path)))
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<Endpoint at {' and '.join(self.addresses) or 'no address'}>"

    @property
    def addresses(self) -> list[str]:
        """The addresses at which it answers: `http://HOST:PORT` or `unix:PATH`."""
        return [server.address for server in self._servers]

    def start(self, registry: CollectorRegistry, health: Health, view: View) -> None:
        """Answer from now on."""
        for server in self._servers:
            server.open(registry, health, view)
            thread = threading.Thread(target=server.serve_forever, name="onesession-http", daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Release the addresses. Idempotent."""
        threads, self._threads = self._threads, []
        servers, self._servers = self._servers, []
        for server in servers:
            if threads:
                server.end()
            server.server_close()
        for thread in threads:
            thread.join()

    def after_fork_in_child(self) -> None:
        """Release the sockets, which belong to the parent."""
        for server in self._servers:
            server.socket.close()
        self._servers = []
        self._threads = []


class _Server(ThreadingMixIn, UnixStreamServer):
    """A stream server for a socket of any family."""

    daemon_threads = True
    block_on_close = False
    registry: CollectorRegistry
    health: Health
    view: View

    def __init__(self, sock: socket.socket) -> None:
        super().__init__("", _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = sock
        self.server_address = sock.getsockname()
        self._changed = threading.Condition()
        self._served: dict[socket.socket, None] = {}  # oldest first

    @property
    def address(self) -> str:
        if self.socket.family == socket.AF_UNIX:
            return f"unix:{self.socket.getsockname()}"
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def is_loopback(self) -> bool:
        host = "" if self.socket.family == socket.AF_UNIX else self.socket.getsockname()[0]
        return bool(host) and ipaddress.ip_address(host.partition("%")[0]).is_loopback

    def open(self, registry: CollectorRegistry, health: Health, view: View) -> None:
        self.registry = registry
        self.health = health
        self.view = view
        self.socket.listen(_BACKLOG)

    def end(self) -> None:
        """Make `serve_forever` return immediately: shutting down the socket wakes it from its poll."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.shutdown()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            if len(self._served) >= _MOST:
                self._end_oldest()
            if not self._changed.wait_for(lambda: len(self._served) < _MOST, _GIVING_WAY_SECONDS):
                self.shutdown_request(request)
                return
            self._served[request] = None
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._gone(request)
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._gone(request)

    def _gone(self, request: Any) -> None:
        with self._changed:
            self._served.pop(request, None)
            self._changed.notify()

    def _end_oldest(self) -> None:
        with contextlib.suppress(OSError):
            next(iter(self._served)).shutdown(socket.SHUT_RDWR)

    def server_close(self) -> None:
        path = self.socket.getsockname() if self.socket.family == socket.AF_UNIX else ""
        super().server_close()
        if path:
            Path(path).unlink(missing_ok=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: a client that has left needs no log line."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SOCKET_SECONDS

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if self.command in ("GET", "HEAD"):
            return True
        text = f"{self.command} is not possible here, only GET\n"
        self._answer(HTTPStatus.METHOD_NOT_ALLOWED, text, Allow="GET, HEAD")
        return False

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answers: dict[str, Callable[[], None]] = {
            "/": self._page,
            "/status.json": self._status,
            "/metrics": self._metrics,
            "/livez": lambda: self._health(self.server.health.why_not_alive()),
            "/readyz": lambda: self._health(self.server.health.why_not_ready()),
        }
        answers["/healthz"] = answers["/readyz"]
        answers.get(path, self._nothing)()

    def do_HEAD(self) -> None:
        self.do_GET()

    def _nothing(self) -> None:
        self._answer(
            HTTPStatus.NOT_FOUND,
            f"there is no {self.path.partition('?')[0]}; there are /, /status.json, /metrics, /livez and /readyz\n",
        )

    def _metrics(self) -> None:
        encode, kind = choose_encoder(self.headers.get("Accept", ""))
        self._send(HTTPStatus.OK, kind, encode(self.server.registry))

    def _page(self) -> None:
        from broker.observe.page.html import POLICY

        self._view(
            "text/html; charset=utf-8",
            self.server.view.page,
            **{"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"},
        )

    def _status(self) -> None:
        self._view("application/json", lambda: json.dumps(self.server.view.message()))

    def _view(self, kind: str, make: Callable[[], str], **headers: str) -> None:
        from broker.observe.page.view import TooBusy

        if self.server.is_loopback and not _is_local(self.headers.get("Host", "")):
            self._answer(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"this page is not for names of other machines: use {self.server.address}\n",
            )
            return
        try:
            body = make().encode(errors="replace")
        except TooBusy:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "the last answer is still being put together\n")
            return
        self._send(HTTPStatus.OK, kind, body, **{"Cache-Control": "no-store", **headers})

    def _health(self, why_not: str) -> None:
        if why_not:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{why_not}\n")
        else:
            self._answer(HTTPStatus.OK, "ok\n")

    def _answer(self, status: HTTPStatus, text: str, **headers: str) -> None:
        self._send(status, "text/plain; charset=utf-8", text.encode(), **headers)

    def _send(self, status: HTTPStatus, kind: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        always = {"Content-Type": kind, "Content-Length": str(len(body)), "X-Content-Type-Options": "nosniff"}
        for name, value in {**always, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        """No version: clients need not know the broker's and Python's."""
        return "onesession"

    def address_string(self) -> str:
        return "client"

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a line for each scrape would be noise."""


def _is_local(host: str) -> bool:
    """Whether a Host header names a number, or this machine; old clients send none."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.strip("[]").rstrip(".").lower()
    if not name or name == "localhost" or name.endswith(".localhost"):
        return True
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return False


def _bound(host: str, port: int) -> socket.socket:
    try:
        info = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        sock = socket.socket(info[0], socket.SOCK_STREAM)
    except OSError as error:
        raise BrokerError(f"metrics cannot be served at {host}:{port}: {error}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(info[4])
    except OSError as error:
        sock.close()
        raise BrokerError(
            f"metrics cannot be served at {host}:{port}: {error.strerror}; choose another metrics_port (0: "
            "any)"
        ) from None
    return sock


def _bound_at(path: str) -> socket.socket:
    """Bind a Unix socket. The broker's address is locked, so an existing socket was left by a killed broker."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode) and not _answers(path):
            os.unlink(path)
    except FileNotFoundError:
        pass
    umask = os.umask(0o177)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise BrokerError(
            f"metrics cannot be served at {path}: {error.strerror or error}; choose another metrics_socket"
        ) from None
    finally:
        os.umask(umask)
    return sock


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(path)
        except OSError:
            return False
        return True
