"""The demo: what it accepts as proof, what it finds left behind, and (slow) a whole run and a Ctrl-C in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.demo import verdict
from benchmarks.demo.load import LoadResult
from benchmarks.demo.program import DemoError, Program, messages
from benchmarks.demo.report import batches
from benchmarks.demo.server_figures import Counters

ROOT = Path(__file__).parents[3]
IMAGES = 5

# --- verdict ---


@pytest.fixture
def images(tmp_path: Path) -> verdict.TestImages:
    """Five images; the model itself is wrong about the last one."""
    probabilities = np.eye(10)[[0, 1, 2, 3, 9]]
    path = tmp_path / "test.npz"
    np.savez(path, images=np.zeros((IMAGES, 64)), labels=np.arange(IMAGES), probabilities=probabilities)
    return verdict.TestImages(path)


def load_of(images: verdict.TestImages, requests: int = IMAGES, **changed: object) -> LoadResult:
    """What came back if all went well, but for what is `changed`."""
    fields = {
        "images": np.arange(IMAGES),
        "digits": images.digits.copy(),
        "probabilities": images.probabilities.copy(),
        "latencies_ns": np.full(IMAGES, 1_000_000),
        "errors": [],
        "seconds": 1.0,
        **changed,
    }
    return LoadResult(requests=requests, **fields)  # type: ignore[arg-type]


def failed(load: LoadResult, images: verdict.TestImages) -> list[str]:
    return [check.text for check in verdict.of_load(load, images) if not check.holds]


def test_the_models_own_answers_pass(images: verdict.TestImages):
    """A model is not asked to be right, only to say the same over HTTP."""
    load = load_of(images)
    assert failed(load, images) == []
    assert images.accuracy(load) == images.own_accuracy(load) == 0.8


def test_equal_accuracy_is_not_enough(images: verdict.TestImages):
    """Answers that are as often right as the model, but other ones, fail."""
    digits = images.digits.copy()
    digits[4] = 8  # as wrong as the model's 9
    load = load_of(images, digits=digits)
    assert images.accuracy(load) == images.own_accuracy(load)
    assert failed(load, images) == [
        "4 answers have the model's own class, and its probabilities to the last bit"
    ]


def test_other_probabilities_fail(images: verdict.TestImages):
    """The right class with the probabilities of another run fails; float32 noise does not."""
    assert failed(load_of(images, probabilities=images.probabilities + 1e-7), images) == []
    assert len(failed(load_of(images, probabilities=images.probabilities + 1e-3), images)) == 1


def test_a_missing_answer_fails(images: verdict.TestImages):
    """A request without an answer fails the demo, and the first error is shown."""
    load = load_of(images, requests=IMAGES + 1, errors=["ConnectionResetError: gone"])
    assert failed(load, images) == ["5 of 6 requests answered; the first error: ConnectionResetError: gone"]


def test_a_bad_request_must_be_refused():
    """400 with the message holds; an answer or a crash does not."""
    assert verdict.of_bad_request(400, {"error": "input 'x' expects ..."}).holds
    assert not verdict.of_bad_request(200, {"digit": 1}).holds
    assert not verdict.of_bad_request(500, "Internal Server Error").holds


def test_counters_come_from_the_status_as_json():
    """JSON makes strings of the batch sizes; the counters of the load are those since it began."""

    def status(requests: int, batch_rows: dict[int, int]) -> dict[str, object]:
        signature = {"requests": requests, "batch_rows": batch_rows}
        return {"pid": 7, "models": {"digits": {"serving_default": signature}}}

    before = Counters.of(json.loads(json.dumps(status(4, {1: 4}))))
    after = Counters.of(json.loads(json.dumps(status(20, {1: 6, 10: 1, 2: 2}))))
    assert after.since(before) == Counters(7, 16, Counter({1: 2, 2: 2, 10: 1}))
    rows = list(batches(after.since(before)).columns[0].cells)
    assert rows == ["1 row", "2 rows", "10 rows"]


# --- programs and leftovers ---


def test_a_program_that_fails_is_reported_with_its_log(tmp_path: Path):
    """What it said until then arrives, then DemoError with the end of its log."""
    code = "import sys; print('{\"n\": 1}', flush=True); sys.exit('no such thing')"
    with Program("it", [sys.executable, "-c", code], tmp_path, talks=True) as program:
        said = messages([program], 30)
        assert next(said)[1] == {"n": 1}
        with pytest.raises(DemoError, match=r"it ended with status 1:\nno such thing"):
            next(said)


def test_a_program_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """SIGTERM first; when that is not enough SIGKILL, and the check of the stop fails."""
    monkeypatch.setattr(Program, "stop_seconds", 0.2)
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('{}', flush=True); signal.pause()"
    program = Program("deaf", [sys.executable, "-c", code], tmp_path, talks=True)
    assert program.process.stdout is not None
    program.process.stdout.readline()
    program.stop()
    assert program.process.returncode == -signal.SIGKILL
    assert not verdict.of_stop(program).holds


LEFT = """
import posix_ipc, subprocess, sys
from benchmarks.demo import machine
machine.GRACE_SECONDS = 0.2
machine.adopt_orphans()
space = machine.Workspace()
if "leave" in sys.argv:
    # An orphan, as the worker of a killed gunicorn would be.
    subprocess.run(["sh", "-c", "sleep 300 &"], check=True)
    posix_ipc.Semaphore(f"/{space._prefix}1.2", posix_ipc.O_CREX).close()
for left in (space.clear(), space.clear()):
    print(len(left.processes), len(left.names), len(left.files), bool(left))
"""


@pytest.mark.parametrize(("argument", "first"), [("leave", "1 1 0 True"), ("nothing", "0 0 0 False")])
def test_leftovers_are_found_and_put_right(argument: str, first: str):
    """An orphan and a name in /dev/shm are found once; then they are gone."""
    found = subprocess.run(
        [sys.executable, "-c", LEFT, argument], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines() == [first, "0 0 0 False"]


# --- the whole ---


def start_demo(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.demo", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.tensorflow
def test_the_demo_holds():
    """Every check of a short run without the comparison holds, and no line is wider than 100 columns."""
    demo = start_demo("--skip-comparison", "--requests", "1", "--workers", "2", "--clients", "2")
    output, _ = demo.communicate(timeout=110)
    assert demo.returncode == 0, output
    assert "All checks hold." in output
    assert max(map(len, output.splitlines())) <= 100


@pytest.mark.slow
@pytest.mark.tensorflow
def test_ctrl_c_stops_everything():
    """Interrupted while gunicorn serves, the demo ends with status 130; the leak check finds nothing."""
    demo = start_demo("--skip-comparison", "--requests", "1000000", "--workers", "2", "--clients", "2")
    assert demo.stdout is not None
    for line in demo.stdout:
        if "start the broker" in line:
            break
    os.kill(demo.pid, signal.SIGINT)
    output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, output
    assert "the machine is clean" in output
