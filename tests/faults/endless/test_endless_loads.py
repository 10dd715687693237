"""Starts and loads that do not end: they are reported, they have a limit, and they delay nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client
from broker import Broker
from broker.control_plane.query import ask
from tests.brokers import TestBroker, folder, serving, wait_until
from tests.commands import commands
from tests.process.models import GATE_VARIABLE
from tests.servers.running import place as server_place

LIMIT_S = 6
PATIENCE_S = 60.0
SLOW, INNOCENT = "tests.faults.endless.endless:slow", "tests.faults.endless.looping:innocent"
MODELS: dict[str, Any] = {"innocent": INNOCENT, "slow": SLOW}
WORDS = [*(f"--model={name}={source}" for name, source in MODELS.items()), "--start-seconds", str(LIMIT_S)]
ROW = np.ones((1, 4), np.float32)
HOW = ["endless", "held"]
"""The load lets other threads run, or holds the interpreter's lock."""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with folder() as path:
        monkeypatch.setenv(GATE_VARIABLE, os.fspath(path))
        yield path


# -- the first start -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
def test_a_commands_start_ends_with_the_models_name(how: str) -> None:
    """One line says which model, how long, and which setting; COMMAND is never begun, nothing is left."""
    with folder() as one, folder() as other, commands(one) as start, commands(other) as start_other:
        for place in (one, other):
            (place / how).touch()
        begins = ["--", "touch", os.fspath(other / "began")]
        for command in (start("serve", "--supervise", *WORDS), start_other("run", *WORDS, *begins)):
            status, _, err = command.end()
            assert status == 1
            (line,) = [line for line in err.splitlines() if line.startswith("Error: ")]
            assert f"not ready within {LIMIT_S} s (start_seconds): model 'slow' has been loading for" in line
            assert not list(command.place.glob("b.sock*"))
        assert not (other / "began").exists()


def test_a_broker_without_a_parent_ends_its_start_itself(here: Path) -> None:
    """The same line, in its log."""
    (here / "endless").touch()
    with commands(here) as start:
        status, _, err = start("serve", *WORDS).end()
    assert status == 1
    assert f"not ready within {LIMIT_S} s (start_seconds): model 'slow' has been loading for" in err
    assert not list(here.glob("b.sock*"))


def test_a_broker_without_a_parent_ends_even_where_the_lock_is_held(here: Path) -> None:
    """No thread can write a line then, but a timer that needs no lock prints where the process is stuck."""
    (here / "held").touch()
    with commands(here) as start:
        status, _, err = start("serve", *WORDS).end()
    assert status == 1
    assert "endless.py" in err


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("supervise", [True, False])
def test_the_start_of_a_broker_in_python_names_the_model(here: Path, supervise: bool, how: str) -> None:
    """`start` raises within its limit, and the process that it started has ended."""
    (here / how).touch()
    broker = Broker(MODELS, name=os.fspath(here / "b.sock"), supervise=supervise, start_seconds=LIMIT_S)
    with pytest.raises(worker_client.BrokerError, match=rf"not ready within {LIMIT_S} s .*model 'slow'"):
        broker.start()
    assert not list(here.glob("b.sock*"))


@pytest.mark.parametrize("how", HOW)
def test_gunicorns_start_names_the_model(how: str) -> None:
    """The arbiter logs the model's name and ends, as for any other reason why its broker cannot start."""
    conf = f"from broker.integrations import gunicorn\ngunicorn.serve(globals(), {MODELS!r}, start_seconds={LIMIT_S})\n"
    with server_place() as place:
        place.write("app.py", "def app(environ, start_response): ...\n")
        place.write("gunicorn.conf.py", conf)
        (place.path / how).touch()
        done = subprocess.run(
            [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "app:app"],
            cwd=place.path,
            env={
                **os.environ,
                GATE_VARIABLE: os.fspath(place.path),
                "XDG_RUNTIME_DIR": os.fspath(place.path),
                "PYTHONPATH": os.fspath(Path(__file__).parents[3]),
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert done.returncode == 1
    assert "The broker cannot start: " in done.stderr
    assert "model 'slow' has been loading for" in done.stderr


# -- a start in place of one that has ended ------------------------------------------------------------------------


def set_aside(broker: TestBroker, model: str) -> dict[str, Any] | None:
    """The version of the model that is not served, as soon as there is a broker that says so."""
    try:
        (version,) = ask(broker.address, "models")["models"][model]["versions"]
    except worker_client.BrokerUnavailable:
        return None
    return dict(version) if version["state"] == "END" else None


@pytest.mark.parametrize("how", HOW)
def test_a_restart_goes_on_without_the_model(here: Path, how: str) -> None:
    """The others' calls are answered again; a reload brings the model back."""
    with (
        serving(models=MODELS, path=here / "b.sock", supervise=True, start_seconds=8) as broker,
        worker_client.connect(broker.address, timeout=PATIENCE_S) as client,
    ):
        (broker.gate.folder / how).touch()
        broker.kill_engine()
        version = wait_until(lambda: set_aside(broker, "slow"), "the end of the model", PATIENCE_S)
        np.testing.assert_array_equal(client.model("innocent").predict(ROW), ROW * 2)
        assert "its load did not end when the broker was started again" in version["cause"]
        (broker.gate.folder / how).unlink()
        assert reload(broker, "slow")["failed"] == {}
        np.testing.assert_array_equal(client.model("slow").predict(ROW), ROW * 3)


def test_the_only_model_is_tried_again(here: Path) -> None:
    """The only model is tried again, because without it nothing would be served, and the cause may be temporary."""
    with (
        serving(models={"slow": SLOW}, path=here / "b.sock", supervise=True, start_seconds=4) as broker,
        worker_client.connect(broker.address, timeout=PATIENCE_S) as client,
    ):
        gate = broker.gate.folder
        (gate / "endless").touch()
        broker.kill_engine()
        wait_until(lambda: len(list(gate.glob("loading.*"))) > 1, "the second start", PATIENCE_S)
        (gate / "endless").unlink()
        np.testing.assert_array_equal(client.model("slow").predict(ROW), ROW * 3)


def test_a_restart_goes_on_without_a_model_that_ends_the_process(here: Path) -> None:
    """After a model has ended the process three times while it was loaded, the others are served without it."""
    with (
        serving(models=MODELS, path=here / "b.sock", supervise=True) as broker,
        worker_client.connect(broker.address, timeout=PATIENCE_S) as client,
    ):
        (broker.gate.folder / "ends").touch()
        broker.kill_engine()
        version = wait_until(lambda: set_aside(broker, "slow"), "the end of the model", PATIENCE_S)
        np.testing.assert_array_equal(client.model("innocent").predict(ROW), ROW * 2)
        assert "ended 3 times within 60 s while it loaded this model" in version["cause"]


# -- a load while the broker serves --------------------------------------------------------------------------------


def reload(broker: TestBroker, model: str) -> dict[str, Any]:
    found: dict[str, Any] = ask(broker.address, "reload", PATIENCE_S, models=[model])["models"][model]
    return found


def test_a_load_without_an_end_holds_up_no_other_reload(here: Path) -> None:
    """Other models are loaded beside it. The endless load has a limit; the old version stays in service, and the reload
    says so."""
    with (
        serving(models=MODELS, path=here / "b.sock", start_seconds=20) as broker,
        worker_client.connect(broker.address, timeout=PATIENCE_S) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        (broker.gate.folder / "endless").touch()
        hung = pool.submit(reload, broker, "slow")
        wait_until(lambda: list(broker.gate.folder.glob("loading.*")), "the load")
        assert reload(broker, "innocent")["loaded"] == [2]
        assert not hung.done()
        found = hung.result()
        assert "did not end within 20 s (start_seconds)" in found["failed"]["2"]
        assert found["version"] == 1
        np.testing.assert_array_equal(client.model("slow").predict(ROW), ROW * 3)
        (broker.gate.folder / "endless").unlink()
        assert reload(broker, "slow")["loaded"] == [3]


@pytest.mark.parametrize("how", HOW)
def test_a_stop_does_not_wait_for_a_load(here: Path, how: str) -> None:
    """The load is given up, and the process ends."""
    with (
        serving(models=MODELS, path=here / "b.sock", drain_seconds=1) as broker,
        ThreadPoolExecutor(1) as pool,
    ):
        (broker.gate.folder / how).touch()
        hung = pool.submit(reload, broker, "slow")
        wait_until(lambda: list(broker.gate.folder.glob("loading.*")), "the load")
        pid = broker.pid
        broker.stop()
        assert not Path(f"/proc/{pid}").exists()
        error = hung.exception()
        assert (
            isinstance(error, worker_client.BrokerError)
            or "stopped during the load" in hung.result()["failed"]["2"]
        )


@pytest.mark.parametrize("how", HOW)
def test_a_stop_does_not_wait_for_a_start(here: Path, how: str) -> None:
    """A command that still loads its models ends soon after SIGTERM, and leaves nothing."""
    (here / how).touch()
    with commands(here) as start:
        command = start("serve", "--supervise", *WORDS[:-2])
        wait_until(lambda: list(here.glob("loading.*")), "the load")
        time.sleep(0.1)  # so that it is in the loop
        command.process.terminate()
        assert command.end()[0] == 0
    assert not list(here.glob("b.sock*"))
