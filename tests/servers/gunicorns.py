"""gunicorn with a small app, started by its configuration file; every request asks the model `tell`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psutil

from tests.process.models import GATE_VARIABLE
from tests.servers.running import Place, Server, command_line, is_broker, place, running

APP = """
import json, os, urllib.parse
import numpy as np
import worker_client

tell = worker_client.connect().model("tell")  # with --preload: in the arbiter, before there is a broker


def app(environ, start_response):
    row = int(urllib.parse.parse_qs(environ["QUERY_STRING"])["row"][0])
    answer = tell.predict({"x": np.full((1, 4), row, np.float32), "row": np.array([row])})
    about = {"pid": os.getpid(), "uid": os.getuid(), "timeout": tell.timeout}
    body = json.dumps({**about, "y": answer["y"].tolist()}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""

CONF = """
timeout = 40
from broker.integrations import gunicorn
gunicorn.serve(globals(), models={"tell": "tests.process.models:tell"})
"""
DEADLINE_S = 0.9 * 40
"""Of calls that say nothing: gunicorn's timeout, less one tenth."""


@contextlib.contextmanager
def gunicorn(
    *options: str,
    conf: str = CONF,
    app: str = APP,
    workers: int = 2,
    runtime_mode: int = 0o755,
    gated: bool = False,
) -> Iterator[Server]:
    """`gated`: the gate of the models `gated...` is the server's own folder."""
    with place(runtime_mode) as here:
        here.write("app.py", app)
        here.write("gunicorn.conf.py", conf)
        environment = {GATE_VARIABLE: str(here.path)} if gated else {}
        with running(here, _command(*options, workers=workers), **environment) as server:
            yield server


def gunicorn_in(here: Place) -> contextlib.AbstractContextManager[Server]:
    """Another one with the same files, whose log is the same, too."""
    return running(here, _command())


def _command(*options: str, workers: int = 2) -> list[str]:
    fixed = ["--bind", "127.0.0.1:0", "--workers", str(workers), "--graceful-timeout", "10"]
    return ["gunicorn", *fixed, *options, "app:app"]


def workers_of(server: Server, arbiter: int | None = None) -> list[int]:
    """Process ids of the arbiter's workers."""
    children = psutil.Process(arbiter or server.pid).children()
    return [child.pid for child in children if "gunicorn" in command_line(child) and not is_broker(child)]
