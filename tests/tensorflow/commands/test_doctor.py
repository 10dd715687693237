"""`onesession doctor` on workers that have imported the real TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from broker.doctor.checks import duplicates
from broker.doctor.checks.address import check_broker
from broker.doctor.finding import Severity
from tests.brokers import serving

ROOT = Path(__file__).parents[3]
WORKER = """
import sys, numpy, worker_client
import tensorflow
client = worker_client.connect(sys.argv[1])
client.model("double").predict(numpy.ones((1, 4), "float32"))
print("attached", flush=True)
sys.stdin.read()
"""


def test_a_worker_that_imports_tensorflow_is_told() -> None:
    """It is known by what it has mapped, and named; the broker itself is not counted."""
    with serving("double") as broker:
        command = [sys.executable, "-c", WORKER, broker.address]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"attached\n"
            _answer, patient = check_broker(Path(broker.address))
            found = duplicates.check(patient)
            pid = broker.pid
            worker.communicate(b"")
    assert found.level is Severity.WARNING
    assert f"{worker.pid} (" in found.found
    assert str(pid) not in found.found
