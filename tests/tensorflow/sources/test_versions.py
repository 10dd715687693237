"""Numbered versions of a SavedModel: the next one takes over while workers call it, by signature and by tensors."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import worker_client
from benchmarks.models.mlp import mlp_answer
from broker.control_plane.query import ask
from tests.brokers import serving

X, Y = "serving_default_x:0", "StatefulPartitionedCall:0"
ROWS = np.random.default_rng(3).standard_normal((3, 128)).astype(np.float32)


def test_the_next_version_takes_over(saved_models: Mapping[str, Path], tmp_path: Path) -> None:
    """Calls, and a session's runs, go on without a failure; then the first version is gone."""
    folder = tmp_path / "mlp"
    shutil.copytree(saved_models["mlp"], folder / "1")
    failed: list[BaseException] = []
    stop = threading.Event()
    answer = mlp_answer(ROWS)
    with serving(models={"mlp": folder}) as broker, worker_client.connect(broker.address) as client:
        model, session = client.model("mlp"), client.session("mlp")

        def call() -> None:
            try:
                while not stop.is_set():
                    np.testing.assert_allclose(model.predict(ROWS), answer, atol=1e-5)
                    np.testing.assert_allclose(session.run(Y, {X: ROWS}), answer, atol=1e-5)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        try:
            shutil.copytree(saved_models["mlp"], folder / "2")
            outcome = ask(broker.address, "reload", 60, models=["mlp"])["models"]["mlp"]
        finally:
            stop.set()
            thread.join()
        assert not failed
        assert (outcome["version"], outcome["loaded"], outcome["unloaded"]) == (2, [2], [1])
        np.testing.assert_allclose(session.run(Y, {X: ROWS}), answer, atol=1e-5)
        told = {each["version"]: each for each in ask(broker.address, "models")["models"]["mlp"]["versions"]}
        assert {number: each["state"] for number, each in told.items()} == {1: "END", 2: "AVAILABLE"}
        assert told[2]["memory_bytes"] >= 0

        shutil.copytree(saved_models["mlp"], folder / "3")
        (folder / "3" / "saved_model.pb").write_bytes(b"cut off")
        outcome = ask(broker.address, "reload", 60, models=["mlp"])["models"]["mlp"]
        assert "mlp/3 cannot be read" in outcome["failed"]["3"]
        np.testing.assert_allclose(model.predict(ROWS), answer, atol=1e-5)
