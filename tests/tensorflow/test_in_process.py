"""Models of TensorFlow in the process that calls them: answers of a broker, bit by bit, sessions, and forks. Each in a
fresh process, as an app's tests would have it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import worker_client
from tests.brokers import serving

ROOT = Path(__file__).parents[2]
CALLS = """
import gc, os, sys, numpy as np, worker_client
from worker_client import BrokerUnavailable

client = worker_client.connect()
model = client.model("mlp")
x = np.random.default_rng(7).random((5, model.inputs[0].shape[1]))
y = model.predict({model.inputs[0].name: x})
np.save(sys.argv[1], next(iter(y.values())))
if client.address.startswith("inline:"):
    assert gc.get_freeze_count() == 0, "the app's objects were taken for a broker's"
    if os.fork() == 0:
        try:
            model.predict(x, timeout=30)
        except BrokerUnavailable as error:
            print(error, flush=True)
        os._exit(0)
    os.wait()
    assert (model.predict(x) == next(iter(y.values()))).all()
"""


def answer(address: str, file: Path) -> tuple[np.ndarray, str]:
    environment = {**os.environ, "BROKER_ADDRESS": address, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", CALLS, str(file)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.load(file), done.stdout


def test_answers_and_forks(saved_models: Mapping[str, Path], tmp_path: Path) -> None:
    """The answers are a broker's; a child forked after the first call is told why it cannot call, and does not hang."""
    with serving(models={"mlp": os.fspath(saved_models["mlp"])}) as broker:
        expected, _ = answer(broker.address, tmp_path / "broker.npy")
    found, told = answer(f"inline:mlp={saved_models['mlp']}", tmp_path / "here.npy")
    assert found.tobytes() == expected.tobytes()
    assert "TensorFlow does not survive fork: make the first call after the fork" in told


def test_sessions(saved_models: Mapping[str, Path]) -> None:
    """Tensors of the graph by name, as from a broker, and the message for one that is not there."""
    found = []
    with serving(models={"mlp": os.fspath(saved_models["mlp"])}) as broker:
        for address in (broker.address, f"inline:mlp={saved_models['mlp']}"):
            with worker_client.connect(address) as client:
                try:
                    client.session("mlp").run("no_such_tensor:0")
                except worker_client.InvalidInput as error:
                    found.append(str(error))
    assert len(found) == 2
    assert found[0] == found[1]
