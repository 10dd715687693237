"""`onesession run`, `onesession serve --supervise` and `Broker(...)`: which parent restarts a dead broker,
and when it gives up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

import worker_client
from broker import Broker
from broker.control_plane.locks import note_at
from broker.process.broker_process import STOP_SIGNALS
from broker.process.signals import Mask, blocked_by
from broker.supervision.supervise import FORWARDED
from tests import brokers
from tests.brokers import Gate, wait_until
from tests.commands import PATIENCE_S, ROOT, WAITER, Command, commands
from tests.process.models import SOURCES
from tests.workers import Talk, worker
from worker_client import BrokerError, BrokerUnavailable

Start = Callable[..., Command]
ROW = np.ones((1, 4), np.float32)

MODEL = """
import pathlib, time
import broker
place = pathlib.Path(__file__).parent
while (place / "hold").exists():
    time.sleep(0.01)
if (place / "break").exists():
    raise RuntimeError("broken meanwhile")

@broker.signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
def double(x):
    return x * 2
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a model in it that does not load as long as there is a file `hold`, nor if there is `break`."""
    with brokers.folder() as path:
        (path / "fickle.py").write_text(MODEL)
        yield path


@pytest.fixture
def start(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(place), str(ROOT)]))
    with commands(place) as start:
        yield start


def address(place: Path) -> Path:
    return place / "b.sock"


def left_in(place: Path) -> list[str]:
    """What a broker has left there."""
    return [name for name in os.listdir(place) if name.startswith("b.sock")]


def call(place: Path, timeout: float = PATIENCE_S) -> None:
    with worker_client.connect(address(place), timeout=timeout) as client:
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)


def engine_of(place: Path, but: int | None = None) -> int:
    """The pid of the process that serves, or loads, at the address; another one than `but`."""

    def found() -> int | None:
        note = note_at(address(place))
        return note.pid if note is not None and note.pid != but else None

    return int(wait_until(found, "a broker's process"))


def kill_engine(place: Path) -> int:
    pid = engine_of(place)
    os.kill(pid, signal.SIGKILL)
    return pid


def run(start: Start, program: str, *arguments: str, model: str = "fickle:double") -> Command:
    command: Command = start(
        "run", "--model", f"double={model}", "--", sys.executable, "-c", program, *arguments
    )
    return command


# -- run -----------------------------------------------------------------------------------------------------------

CALLER = """
import pathlib, sys, numpy, worker_client
model = worker_client.connect().model("double")
x = numpy.ones((1, 4), "float32")
stop = pathlib.Path(sys.argv[1])
calls = 0
while not stop.exists():
    assert (model.predict(x * calls) == 2 * x * calls).all()
    calls += 1
    if calls == 1:
        print("ready", file=sys.stderr, flush=True)
"""


def test_run_starts_its_broker_again(start: Start, place: Path) -> None:
    """The command of `onesession run` calls on while its broker is killed and told to stop; it notices nothing."""
    command = run(start, CALLER, str(place / "stop"))
    command.wait_for("ready")
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
        pid = engine_of(place)
        os.kill(pid, number)
        engine_of(place, but=pid)
        call(place)
    (place / "stop").touch()
    status, _out, err = command.end()
    assert status == 0, err
    assert "was killed by SIGKILL; starting it again" in err
    assert "ended with status 0; starting it again" in err
    assert left_in(place) == []


def test_run_passes_signals_on_while_its_broker_starts(start: Start, place: Path) -> None:
    """A command gets its signals, and ends, though the next broker still loads its models."""
    command = run(start, WAITER)
    command.wait_for("ready")
    (place / "hold").touch()
    engine_of(place, but=kill_engine(place))
    command.signal(signal.SIGUSR1)
    status, out, err = command.end()
    assert (status, out) == (40, f"got {int(signal.SIGUSR1)}\n"), err
    assert left_in(place) == []


def test_run_goes_on_when_its_broker_cannot_start_for_a_while(start: Start, place: Path) -> None:
    """Starts that fail are tried again, as their cause may pass: the command runs on, then its calls are answered."""
    command = run(start, CALLER, str(place / "stop"))
    command.wait_for("ready")
    (place / "break").touch()
    kill_engine(place)
    for _ in range(6):
        command.wait_for("broken meanwhile")
    (place / "break").unlink()
    call(place)
    (place / "stop").touch()
    status, _out, err = command.end()
    assert status == 0, err
    assert "Traceback" not in err
    assert left_in(place) == []


MASK = """
import os, signal, sys, time
assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
assert not [name for name in os.environ if "MASK" in name]
print("ready", file=sys.stderr, flush=True)
signal.pause()
"""


def masks(pid: int) -> list[Mask]:
    """What each thread but the main one blocks."""
    tasks = [task for task in Path(f"/proc/{pid}/task").iterdir() if task.name != str(pid)]
    return [blocked_by((task / "status").read_text()) for task in tasks]


@pytest.mark.slow
def test_signals_are_the_main_threads(start: Start, place: Path) -> None:
    """Whatever threads libraries make in a supervising parent, none of them takes a signal; broker process and command
    block none."""
    command = run(start, MASK)
    command.wait_for("ready")
    assert all(mask >= {*FORWARDED, signal.SIGCHLD} for mask in masks(command.process.pid))
    assert not any(masks(engine_of(place)))
    command.signal(signal.SIGTERM)
    assert command.end()[0] == 128 + signal.SIGTERM
    with Broker({"double": SOURCES["double"]}, name=str(address(place))) as broker:
        assert broker._process is not None
        parent = broker._process.pid
        assert parent is not None
        assert all(mask >= {*STOP_SIGNALS, signal.SIGCHLD, signal.SIGIO} for mask in masks(parent))
        assert not any(masks(engine_of(place, but=parent)))
    command = serve(start)
    command.wait_for("serving double")
    assert all(mask >= {*STOP_SIGNALS, signal.SIGCHLD} for mask in masks(command.process.pid))
    command.signal(signal.SIGTERM)
    assert command.end()[0] == 0


# -- serve ---------------------------------------------------------------------------------------------------------


def serve(start: Start, model: str = "fickle:double") -> Command:
    return start("serve", "--supervise", "--model", f"double={model}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_serve_restarts_until_it_is_told_to_stop(start: Start, place: Path, number: int) -> None:
    """`onesession serve --supervise` survives the deaths of its broker process; a signal ends it in order."""
    command = serve(start)
    command.wait_for("serving double")
    for _ in range(2):
        kill_engine(place)
        call(place)
    command.signal(number)
    status, _out, err = command.end()
    assert status == 0
    assert err.count("starting it again") >= 2
    assert left_in(place) == []


def test_serve_that_cannot_start_says_so_at_once(start: Start, place: Path) -> None:
    """The first start is not tried again: what is wrong stands in the settings, and is told in one line."""
    (place / "break").touch()
    status, _out, err = serve(start).end()
    assert (status, err.count("broken meanwhile"), "Traceback" in err) == (1, 1, False), err
    assert left_in(place) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_stop_while_models_load_is_obeyed(start: Start, place: Path, number: int) -> None:
    """Whether for the first time or again: a broker that loads is stopped by one signal to its parent."""
    (place / "hold").touch()
    command = serve(start)
    engine_of(place)
    command.signal(number)
    assert command.end()[0] == 0
    (place / "hold").unlink()
    command = serve(start)
    command.wait_for("serving double")
    (place / "hold").touch()
    engine_of(place, but=kill_engine(place))
    command.signal(number)
    assert command.end()[0] == 0
    assert left_in(place) == []


def test_a_second_signal_ends_a_drain(start: Start, place: Path) -> None:
    """The first Ctrl-C waits for accepted requests; the second ends broker process and parent at once, and nothing is
    left."""
    command = serve(start, SOURCES["gated_produce"])
    command.wait_for("serving double")
    with worker_client.connect(address(place), retries=0) as client:
        future = client.model("double").submit({"number": np.int64(1), "n": np.int64(1)})
        Gate(place).wait_for(1)
        command.signal(signal.SIGINT)
        command.wait_for("stopping")
        command.signal(signal.SIGINT)
        assert command.end()[0] == 128 + signal.SIGINT
        assert isinstance(future.exception(PATIENCE_S), BrokerUnavailable)
    assert left_in(place) == []


def test_a_second_signal_ends_an_engine_that_hangs(start: Start, place: Path) -> None:
    """It handles no signal, and its parent would wait for it as long as requests may drain. The parent kills it."""
    command = start("serve", "--supervise", "--drain-seconds", "3600", "--model", "double=fickle:double")
    command.wait_for("serving double")
    engine = psutil.Process(engine_of(place))
    engine.suspend()
    command.signal(signal.SIGINT)
    command.wait_for("stopping")
    command.signal(signal.SIGINT)
    assert command.end()[0] == 128 + signal.SIGINT
    assert not engine.is_running()
    assert left_in(place) == []


def test_a_killed_parent_takes_its_engine_with_it(start: Start, place: Path) -> None:
    """SIGKILL of the supervising parent ends the broker process in order; the address is free for the next."""
    command = serve(start)
    command.wait_for("serving double")
    engine = psutil.Process(engine_of(place))
    command.signal(signal.SIGKILL)
    wait_until(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE, "the engine's end")
    assert left_in(place) == []
    with Broker({"double": SOURCES["double"]}, name=str(address(place))):
        call(place)


# -- the address ---------------------------------------------------------------------------------------------------


def test_an_address_is_kept_while_its_broker_is_restarted(start: Start, place: Path) -> None:
    """Nobody else takes the address meanwhile, and calls wait for its own broker, first ones and those with no
    retries included; what they wait too long for is told as such."""
    command = serve(start)
    command.wait_for("serving double")
    (place / "hold").touch()
    engine_of(place, but=kill_engine(place))
    with pytest.raises(BrokerError, match="already serves"):
        Broker({"double": SOURCES["double"]}, name=str(address(place))).start()
    with pytest.raises(worker_client.DeadlineExceeded):
        call(place, timeout=0.1)
    with worker(first_call, place, talk=True) as caller:
        caller.hear()
        (place / "hold").unlink()
        caller.result()
    command.signal(signal.SIGTERM)
    assert command.end()[0] == 0


def first_call(talk: Talk, place: Path) -> None:
    talk.say()
    with worker_client.connect(address(place), timeout=PATIENCE_S, retries=0) as client:
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)


# -- Broker(...) ---------------------------------------------------------------------------------------------------


def test_a_broker_in_python_is_started_again(place: Path) -> None:
    """`Broker` does it by default; `pid` is that of the process that serves; `stop` is the end."""
    with Broker({"double": SOURCES["double"]}, name=str(address(place))) as broker:
        call(place)
        for _ in range(2):
            pid = kill_engine(place)
            call(place)
            assert broker.pid not in (None, pid)
    assert broker.pid is None
    assert left_in(place) == []


def test_a_broker_in_python_may_be_left_dead(place: Path) -> None:
    """With `supervise=False` it is one process, which is not restarted."""
    broker = Broker({"double": SOURCES["double"]}, name=str(address(place)), supervise=False)
    with broker, worker_client.connect(address(place), retries=0) as client:
        client.model("double").predict(ROW)
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        wait_until(lambda: broker._process is not None and broker._process.has_ended(), "its end")
        with pytest.raises(BrokerUnavailable):
            client.model("double").predict(ROW)


def test_stop_ends_a_broker_that_is_just_restarted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`stop` does not wait for models that load."""
    monkeypatch.syspath_prepend(str(place))
    with Broker({"double": "fickle:double"}, name=str(address(place))):
        (place / "hold").touch()
        engine_of(place, but=kill_engine(place))
    assert left_in(place) == []


def test_the_supervising_parent_imports_no_tensorflow() -> None:
    """What restarts a broker needs a small part of its memory, and none of its libraries."""
    program = "import sys, broker.supervision.supervise, broker.cli; print('tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert done.stdout == "False\n"
