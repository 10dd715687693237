"""A SavedModel behind gunicorn: TensorFlow in the broker's process, and in no other."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np

from benchmarks.models.mlp import mlp_answer
from tests.servers.gunicorns import gunicorn, workers_of

APP = """
import json, os, sys, urllib.parse
import numpy as np
import worker_client

mlp = worker_client.connect().model("mlp")


def app(environ, start_response):
    row = int(urllib.parse.parse_qs(environ["QUERY_STRING"])["row"][0])
    y = mlp.predict(np.full((1, 128), row / 10, np.float32)).tolist()
    body = json.dumps({"y": y, "tensorflow": "tensorflow" in sys.modules}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""


def test_workers_answer_from_the_one_session(mlp_path: Path) -> None:
    """Right answers before and after a reload; neither the arbiter nor a worker has TensorFlow mapped."""
    conf = f"""
from broker.integrations import gunicorn
gunicorn.serve(globals(), models={{"mlp": {str(mlp_path)!r}}})
"""
    with gunicorn("--preload", conf=conf, app=APP) as server:
        for row in range(10):
            if row == 5:
                server.signal(signal.SIGHUP)
            answer = server.get(f"/mlp?row={row}")
            expected = mlp_answer(np.full((1, 128), row / 10, np.float32))
            np.testing.assert_allclose(answer["y"], expected, rtol=1e-5, atol=1e-6)
            assert not answer["tensorflow"]
        for pid in (server.pid, *workers_of(server)):
            assert "tensorflow" not in Path(f"/proc/{pid}/maps").read_text()
        assert "tensorflow" in Path(f"/proc/{server.broker()}/maps").read_text()
