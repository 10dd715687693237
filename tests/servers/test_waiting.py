"""A waiting call does not block its worker: pages without a model are answered meanwhile."""

from __future__ import annotations

import threading

import pytest

from tests.brokers import Gate
from tests.servers.gunicorns import gunicorn
from tests.servers.running import OTHER_SERVERS

AT_ONCE = 12

CONF = """
from broker.integrations import gunicorn
gunicorn.serve(globals(), models={"gated": "tests.process.models:gated"})
"""

WSGI_APP = """
import json, urllib.parse
import numpy as np
import worker_client

gated = worker_client.connect().model("gated")


def app(environ, start_response):
    answer = None
    if environ["PATH_INFO"] == "/gated":
        x = float(urllib.parse.parse_qs(environ["QUERY_STRING"])["x"][0])
        answer = float(gated.predict({"number": np.array([1]), "x": np.array([x], np.float32)})["y"][0])
    body = json.dumps(answer).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""

ASGI_APP = """
import json, urllib.parse
import numpy as np
import worker_client.aio

gated = worker_client.aio.connect().model("gated")


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    answer = None
    if scope["path"] == "/gated":
        x = float(urllib.parse.parse_qs(scope["query_string"].decode())["x"][0])
        outputs = await gated.predict({"number": np.array([1]), "x": np.array([x], np.float32)})
        answer = float(outputs["y"][0])
    body = json.dumps(answer).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.mark.parametrize("worker_class", ["gevent", "asgi"])
def test_other_pages_are_answered_meanwhile(worker_class: str) -> None:
    """One worker with one thread: while requests wait in the model it answers others, and then all of them, rightly."""
    if worker_class == "gevent":
        pytest.importorskip("gevent")
    elif OTHER_SERVERS:
        pytest.skip("only newer versions of gunicorn have it")
    app = ASGI_APP if worker_class == "asgi" else WSGI_APP
    answers: list[float] = []
    with gunicorn("--worker-class", worker_class, conf=CONF, app=app, workers=1, gated=True) as server:
        gate = Gate(server.place.path)
        waiting = [
            threading.Thread(target=lambda x=x: answers.append(server.get(f"/gated?x={x}")))
            for x in range(AT_ONCE)
        ]
        for thread in waiting:
            thread.start()
        try:
            gate.wait_for(1)
            for _ in range(5):
                assert server.get("/") is None
            assert not answers
        finally:
            gate.open()
            for thread in waiting:
                thread.join()
        assert sorted(answers) == [2.0 * x for x in range(AT_ONCE)]
