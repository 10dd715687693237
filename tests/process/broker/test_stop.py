"""A start and a polite stop, in this process, so that they can be paused at the moment that matters."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

import numpy as np
import pytest

import worker_client
from broker.config.settings import Settings
from broker.control_plane.query import ask
from broker.models.spec import ModelSpec
from broker.server.server import Server
from tests.brokers import Gate, folder, wait_until
from tests.process.models import GATE_VARIABLE, sources


@pytest.mark.parametrize("models", [("double",), ("double", "tell")], ids=["one batch", "several"])
def test_requests_in_the_rings_at_a_stop_are_answered(models: tuple[str, ...]) -> None:
    """They were submitted before the stop, and so they are accepted, though the intake has not seen them yet."""
    with folder() as place:
        path = os.fspath(place / "b.sock")
        server = Server(
            Settings(models=tuple(ModelSpec.coerce_all(sources(*models))), address=path, tune="off")
        )
        server.start()
        with worker_client.connect(path, retries=0) as client:
            inputs = {"double": np.ones((1, 4), np.float32)}
            inputs["tell"] = {"x": inputs["double"], "row": np.array([1])}
            for name in models:
                client.model(name).predict(inputs[name])
            held, go_on = threading.Event(), threading.Event()
            server.intake.call(lambda: (held.set(), go_on.wait(60)))
            assert held.wait(60)
            futures = [client.model(name).submit(inputs[name]) for name in models for _ in range(4)]
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            wait_until(lambda: server.intake._calls, "the call that stops the intake")
            go_on.set()
            for future in futures:
                future.result(60)
            stopping.join()


def test_nobody_is_answered_before_it_is_told_that_the_broker_serves() -> None:
    """The first call may hold the interpreter's lock for good, and only who knows that the broker serves ends the
    process for that. Who is answered is not told any more that models are being loaded."""
    with folder() as place:
        path = os.fspath(place / "b.sock")
        models = tuple(ModelSpec.coerce_all(sources("double")))
        server = Server(Settings(models=models, address=path, tune="off", metrics_port=0))
        answered = threading.Event()
        told: list[bool] = []

        def call_and_ask() -> None:
            with worker_client.connect(path) as client:
                client.model("double").predict(np.ones((1, 4), np.float32))
                answered.set()
            status = ask(path, "status")["status"]
            assert status["pid"] == os.getpid()
            with urlopen(f"{status['metrics'][0]}/readyz", timeout=60) as answer:
                assert answer.status == 200

        with ThreadPoolExecutor(1) as pool:
            calls = pool.submit(call_and_ask)
            try:
                server.start(lambda: told.append(answered.wait(0.5)))
                calls.result(60)
            finally:
                server.stop()
        assert told == [False]


def test_runs_that_are_under_way_at_a_stop_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as `drain_seconds` says, by a thread of the model's own, when nothing more is taken."""
    with folder() as place:
        monkeypatch.setenv(GATE_VARIABLE, os.fspath(place))
        gate, path = Gate(place), os.fspath(place / "b.sock")
        models = tuple(ModelSpec.coerce_all(sources("gated")))
        server = Server(Settings(models=models, address=path, tune="off", drain_seconds=60))
        server.start()
        wait_for_runs = server.intake.join_runners

        opening = threading.Timer(0.3, gate.open)  # long after whoever does not wait has gone on

        def begin_to_wait(seconds: float) -> bool:
            opening.start()
            return wait_for_runs(seconds)

        monkeypatch.setattr(server.intake, "join_runners", begin_to_wait)
        with worker_client.connect(path, retries=0) as client:
            future = client.model("gated").submit({"number": [1], "x": np.float32([3])})
            gate.wait_for(1)
            server.stop()
            opening.join()
            assert future.result(60)["y"] == [6]
