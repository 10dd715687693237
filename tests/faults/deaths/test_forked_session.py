"""A session in a child of the process that holds it: an error at once. Each case in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.models.saved_models import export

PROGRAM = """
import os, signal, sys, traceback
import numpy as np
from broker.models.lifecycle import repository
from broker.models.spec import ModelSpec

spec = ModelSpec("mlp", sys.argv[1], intra_op_threads=1)
models = repository.load([spec])
session = models.models["mlp"]._session
X, Y = "serving_default_x:0", "StatefulPartitionedCall:0"
row = np.ones((1, 128), np.float32)
ready = session.make_callable(Y, [X])
wanted = session.run(Y, {X: row})

def new_session():
    import tensorflow as tf
    with tf.Graph().as_default(), tf.compat.v1.Session() as other:
        other.run(tf.constant(1) + 1)

uses = {
    "run": lambda: session.run(Y, {X: row}),
    "callable made before": lambda: ready(row),
    "callable made after": lambda: session.make_callable(Y, [X]),
    "another session": new_session,
}

def child(depth):
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    signal.alarm(60)  # what hangs is killed, and shows as a signal
    try:
        if depth:
            os._exit(1 if child(depth - 1) else 0)
        uses[sys.argv[2]]()
        os._exit(2)
    except RuntimeError as error:
        print(type(error).__name__, error, flush=True)
        os._exit(0 if "forked from pid" in str(error) else 3)
    except BaseException:
        traceback.print_exc()
        os._exit(4)

status = child(int(sys.argv[3]))
assert (session.run(Y, {X: row}) == wanted).all()
models.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("forked") / "mlp"
    export({"mlp": path})
    return path


@pytest.mark.parametrize(
    ("use", "depth"),
    [
        ("run", 0),
        pytest.param("run", 1, marks=pytest.mark.slow),
        pytest.param("callable made before", 0, marks=pytest.mark.slow),
        pytest.param("callable made after", 0, marks=pytest.mark.slow),
        pytest.param("another session", 0, marks=pytest.mark.slow),
    ],
)
def test_a_session_in_a_child_says_why_it_cannot(mlp: Path, use: str, depth: int) -> None:
    """Instead of hanging it raises a RuntimeError that names the parent and the remedy; the parent continues."""
    command = [sys.executable, "-c", PROGRAM, str(mlp), use, str(depth)]
    result = subprocess.run(
        command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "ForkedSession" in result.stdout
    assert "worker_client.connect().model(NAME).predict(x)" in result.stdout
