"""The timeout of a call that sets none itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import worker_client
from tests.brokers import folder, serving, wait_until
from worker_client import DeadlineExceeded, InvalidInput

ROW = np.ones((1, 4), np.float32)
OWN = {"source": "tests.process.models:double", "timeout": 7.5}
MODELS = {"own": OWN, "none": {**OWN, "timeout": None}}


def test_the_nearest_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handle's comes before the client's, that before $BROKER_TIMEOUT, that before the model's own, else 60."""
    with serving(models=MODELS) as broker:

        def timeouts(**arguments: float) -> list[float]:
            with worker_client.connect(broker.address, **arguments) as client:  # type: ignore[arg-type]
                return [client.model(name).timeout for name in MODELS] + [
                    client.model("own", timeout=2).timeout
                ]

        assert timeouts() == [7.5, 60.0, 2.0]
        monkeypatch.setenv("BROKER_TIMEOUT", "20")
        assert timeouts() == [20.0, 20.0, 2.0]
        assert timeouts(timeout=3) == [3.0, 3.0, 2.0]


def test_a_models_own_timeout_ends_its_calls() -> None:
    """What the model's settings say is in force from the first call on, and a call's own timeout overrides it."""
    gated = {"source": "tests.process.models:gated", "timeout": 0.2}
    with serving(models={"gated": gated}) as broker, worker_client.connect(broker.address) as client:
        model = client.model("gated")
        inputs = {"number": np.array([1]), "x": np.ones(1, np.float32)}
        model.predict({**inputs, "number": np.array([0])}, timeout=60)
        with pytest.raises(DeadlineExceeded):
            model.predict(inputs)
        with pytest.raises(DeadlineExceeded):
            model.submit(inputs).result(60)
        with model.request(rows=1) as request:
            request["number"][...] = 1
            with pytest.raises(DeadlineExceeded):
                request.run()
        broker.gate.open()
        model.predict(inputs, timeout=60)


@pytest.mark.parametrize("wrong", ["0", "-1", "soon", "nan"])
def test_a_timeout_must_be_one(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """A wrong timeout is refused wherever it is set; the error names the place."""
    with pytest.raises(InvalidInput, match="a timeout must be a number of seconds above 0"):
        worker_client.connect("nobody", timeout=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="a timeout must be a number of seconds above 0"):
        worker_client.connect("nobody").model("m", timeout=wrong)  # type: ignore[arg-type]
    monkeypatch.setenv("BROKER_TIMEOUT", wrong)
    with pytest.raises(InvalidInput, match="BROKER_TIMEOUT must be a number of seconds above 0"):
        worker_client.connect("nobody")


APP = """
import json, worker_client
client = worker_client.connect()  # with --preload: in the arbiter, before it forks
models = client.model("own"), client.model("none"), client.model("none", timeout=99)
def app(environ, start_response):
    body = json.dumps([model.timeout for model in models]).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.mark.parametrize(("worker_class", "preload"), [("sync", True), ("gthread", False)])
def test_under_gunicorn_it_is_less_than_the_servers(worker_class: str, preload: bool) -> None:
    """Where gunicorn knows nothing of the broker, too: a caller sees DeadlineExceeded before its worker is killed; what
    the app says itself stays."""
    with serving(models=MODELS) as broker, folder() as place:
        (place / "app.py").write_text(APP)
        server = [
            "gunicorn",
            "app:app",
            "--bind",
            "127.0.0.1:0",
            "--timeout",
            "5",
            "--worker-class",
            worker_class,
        ]
        options = [
            "--chdir",
            str(place),
            "--log-file",
            str(place / "log"),
            *(["--preload"] if preload else []),
        ]
        environment = {
            **os.environ,
            "BROKER_ADDRESS": broker.address,
            "PYTHONPATH": str(Path(__file__).parents[3]),
        }
        process = subprocess.Popen([sys.executable, "-m", *server, *options], env=environment)
        try:
            assert get(place / "log") == b"[4.5, 4.5, 99.0]"
        finally:
            process.terminate()
            process.wait(30)


def get(log: Path) -> bytes:
    """The response of the server whose address is in its log."""

    def port() -> str | None:
        lines = (
            [line for line in log.read_text().splitlines() if "Listening at" in line] if log.exists() else []
        )
        return lines[0].split("127.0.0.1:")[1].split()[0] if lines else None

    url = f"http://127.0.0.1:{wait_until(port, 'the server')}/"
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                body: bytes = answer.read()
                return body
        except ConnectionError:
            assert time.monotonic() < deadline
