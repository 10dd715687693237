"""Conditions that the starting process may have set: closed descriptors, ignored or blocked signals, a working
directory that is gone, names of any bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client
from broker.control_plane.locks import note_at
from broker.control_plane.query import ask
from tests import brokers
from tests.brokers import wait_until
from tests.commands import PATIENCE_S, ROOT, Command, commands
from tests.process.models import SOURCES

Start = Callable[..., Command]
ROW = np.ones((1, 4), np.float32)
MODEL = ("--model", f"double={SOURCES['double']}")


@pytest.fixture
def place() -> Iterator[Path]:
    with brokers.folder() as path:
        yield path


@pytest.fixture
def start(place: Path) -> Iterator[Start]:
    with commands(place) as start:
        yield start


def call(place: Path) -> None:
    with worker_client.connect(place / "b.sock", timeout=PATIENCE_S) as client:
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)


def answers(place: Path) -> bool:
    try:
        return bool(ask(str(place / "b.sock"), "status"))
    except worker_client.BrokerError:
        return False


def wait_for_broker(command: Command, place: Path) -> None:
    wait_until(lambda: answers(place) or command.process.poll() is not None, "a broker that answers")
    assert command.process.poll() is None


def engine_of(place: Path, but: int | None = None) -> int:
    def found() -> int | None:
        note = note_at(place / "b.sock")
        return note.pid if note is not None and note.pid != but and not note.loading else None

    return int(wait_until(found, "a broker's process"))


# -- descriptors ---------------------------------------------------------------------------------------------------

CLOSED = ["0", "1", "2", "0 1", "0 2", "1 2", "0 1 2"]


def closing(numbers: str) -> Callable[[], None]:
    """For `preexec_fn`."""
    return lambda: [os.close(int(number)) for number in numbers.split()] and None


@pytest.mark.parametrize(
    "numbers", ["0", "0 1 2", *[pytest.param(n, marks=pytest.mark.slow) for n in CLOSED[1:6]]]
)
@pytest.mark.parametrize("words", [("serve",), ("serve", "--supervise"), ("run",)])
def test_commands_without_standard_descriptors(
    start: Start, place: Path, words: tuple[str, ...], numbers: str
) -> None:
    """Whichever of 0, 1 and 2 are closed, a broker serves, and ends when it is told to."""
    command = [] if words[0] == "serve" else ["--", sys.executable, "-c", "import signal; signal.pause()"]
    broker = start(
        *words,
        *MODEL,
        *command,
        preexec_fn=closing(numbers),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_broker(broker, place)
    call(place)
    broker.signal(signal.SIGTERM)
    assert broker.process.wait(PATIENCE_S) == (0 if words[0] == "serve" else 128 + signal.SIGTERM)


TARGETS = "import os, sys; open(sys.argv[1], 'w').write(' '.join(os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2)))"


def test_a_command_has_standard_descriptors(start: Start, place: Path) -> None:
    """COMMAND of a `onesession run` that had none has /dev/null, and not a file that somebody opens later."""
    command = start(
        *("run", *MODEL, "--", sys.executable, "-c", TARGETS, str(place / "told")),
        preexec_fn=closing("0 1 2"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert command.process.wait(PATIENCE_S) == 0
    assert (place / "told").read_text().split() == ["/dev/null"] * 3


IN_PYTHON = """
import os, sys
import numpy as np
import worker_client
from broker import Broker
for number in sys.argv[3].split():
    os.close(int(number))
own = os.open(sys.argv[2] + "/own", os.O_RDWR | os.O_CREAT)  # gets one of these numbers
assert own == int(sys.argv[3].split()[0])
with Broker({"double": sys.argv[1]}, name=sys.argv[2] + "/b.sock", log_level="debug") as broker:
    x = np.ones((1, 4), np.float32)
    assert (worker_client.connect(broker.address).model("double").predict(x) == 2 * x).all()
    assert os.readlink(f"/proc/self/fd/{own}").endswith("/own")
assert os.read(own, 1) == b"", "somebody has written to the app's file"
os.write(own, b"served")
"""


@pytest.mark.parametrize("numbers", ["2", "0 1", "1 2", "0 1 2"])
def test_a_broker_in_python_without_standard_descriptors(place: Path, numbers: str) -> None:
    """`Broker().start()` in a daemon that has closed them returns, and what the app has opened in their place since is
    neither written to nor handed on."""
    subprocess.run(
        [sys.executable, "-c", IN_PYTHON, SOURCES["double"], str(place), numbers],
        cwd=ROOT,
        timeout=PATIENCE_S,
        check=True,
    )
    assert (place / "own").read_text() == "served"


DAEMON = """
import os, sys
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.closerange(0, 1024)
import numpy as np
import worker_client
from broker import Broker
with Broker({"double": sys.argv[1]}, name=sys.argv[2] + "/b.sock") as broker:
    x = np.ones((1, 4), np.float32)
    assert (worker_client.connect(broker.address).model("double").predict(x) == 2 * x).all()
os.rename(sys.argv[2] + "/begun", sys.argv[2] + "/done")
"""


def test_a_broker_in_a_daemon(place: Path) -> None:
    """A program that has forked twice and closed every descriptor starts its broker, and stops it."""
    (place / "begun").touch()
    subprocess.run([sys.executable, "-c", DAEMON, SOURCES["double"], str(place)], cwd=ROOT, check=True)
    wait_until((place / "done").exists, "the daemon's end")


AROUND = """
import os, sys, time
import numpy as np
import worker_client
from broker import Broker
broker = Broker({"double": sys.argv[1]}, name=sys.argv[2] + "/b.sock")
broker.start()
if os.fork():
    os._exit(0)
sys.stderr.close()
"""


def test_a_broker_before_a_daemonising_fork_says_why_it_ends(place: Path) -> None:
    """It belongs to the process that started it, which ends at the fork; its log says what to do."""
    done = subprocess.run(
        [sys.executable, "-c", AROUND, SOURCES["double"], str(place)],
        cwd=ROOT,
        timeout=PATIENCE_S,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "must start its broker after that fork" in done.stderr


def test_flasks_reloader_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process that the reloader makes import the app is told so, and how to start one broker."""
    with brokers.serving("double", path=place / "b.sock"):
        monkeypatch.setenv("WERKZEUG_RUN_MAIN", "true")
        with pytest.raises(
            worker_client.BrokerError, match="Flask's reloader imports the app in two processes"
        ):
            brokers.Broker({"double": SOURCES["double"]}, name=str(place / "b.sock")).start()


SLOW = """
import time
time.sleep(60)
"""


def test_a_start_has_a_limit(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that never becomes ready ends with what it does and where its log is, and leaves nothing."""
    (place / "slow_model.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(place))
    broker = brokers.Broker(
        {"m": "slow_model:f"}, name=str(place / "b.sock"), supervise=False, start_seconds=6
    )
    with pytest.raises(
        worker_client.BrokerError,
        match=r"not ready within 6 s .*has been loading model 'm' for \d s\. Its log is ",
    ):
        broker.start()
    assert not list(place.glob("b.sock*"))


# -- signals -------------------------------------------------------------------------------------------------------


def ignoring(*numbers: int) -> Callable[[], None]:
    return lambda: [signal.signal(number, signal.SIG_IGN) for number in numbers] and None


def holding_back(*numbers: int) -> Callable[[], None]:
    return lambda: signal.pthread_sigmask(signal.SIG_BLOCK, numbers) and None


STATE = """
import signal, sys
ignored = [n for n in (signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1) if signal.getsignal(n) is signal.SIG_IGN]
print(*map(int, ignored), "/", *sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))))
sys.exit(3)
"""


def test_run_gives_its_command_the_signals_that_it_was_given(start: Start) -> None:
    """What was ignored or blocked is so for COMMAND; `onesession run` sees its end all the same, and its status."""

    def given() -> None:
        ignoring(signal.SIGCHLD, signal.SIGHUP)()
        holding_back(signal.SIGUSR2, signal.SIGTERM)()

    status, out, err = start("run", *MODEL, "--", sys.executable, "-c", STATE, preexec_fn=given).end()
    expected = f"{int(signal.SIGHUP)} {int(signal.SIGCHLD)}"
    assert status == 3, err
    ignored, blocked = out.split("/")
    assert sorted(ignored.split()) == sorted(expected.split())
    assert blocked.split() == sorted([str(int(signal.SIGUSR2)), str(int(signal.SIGTERM))], key=int)
    status, out, err = start("run", *MODEL, "--", sys.executable, "-c", STATE).end()
    assert (status, out) == (3, "/\n"), err


def test_a_broker_is_restarted_where_children_are_ignored(start: Start, place: Path) -> None:
    """SIGCHLD ignored by whoever started `onesession serve --supervise` does not hide the broker's death from it."""
    command = start("serve", "--supervise", *MODEL, preexec_fn=ignoring(signal.SIGCHLD))
    command.wait_for("serving double")
    pid = engine_of(place)
    os.kill(pid, signal.SIGKILL)
    engine_of(place, but=pid)
    call(place)
    command.signal(signal.SIGTERM)
    assert command.end()[0] == 0


@pytest.mark.parametrize("words", [("serve",), ("serve", "--supervise")])
def test_nohup(start: Start, place: Path, words: tuple[str, ...]) -> None:
    """A broker that is started by nohup outlives its terminal; SIGTERM ends it, ignored or blocked as that was."""
    command = start(*words, *MODEL, before=("nohup",), preexec_fn=ignoring(signal.SIGTERM, signal.SIGINT))
    command.wait_for("serving double")
    for number in (signal.SIGHUP, signal.SIGINT):
        command.signal(number)
    call(place)
    command.signal(signal.SIGTERM)
    assert command.end()[0] == 0
    command = start(*words, *MODEL, preexec_fn=holding_back(signal.SIGTERM, signal.SIGCHLD))
    command.wait_for("serving double")
    command.signal(signal.SIGTERM)
    assert command.end()[0] == 0


COUNTER = """
import signal, sys, time
got = []
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, lambda number, _frame: got.append(number))
print("ready", file=sys.stderr, flush=True)
while signal.SIGUSR1 not in got:
    time.sleep(0.01)
time.sleep(0.3)
print(*got)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_group_reaches_the_command_once(start: Start, number: signal.Signals) -> None:
    """As supervisord's stopasgroup and `kill %1` send it; one to `onesession run` alone is
    passed on, before and after."""
    command = start("run", *MODEL, "--", sys.executable, "-c", COUNTER)
    command.wait_for("ready")
    pid = command.process.pid
    seen = 0
    for send in (os.kill, os.killpg, os.kill):
        send(pid, number)
        seen += 1
        wait_until(lambda: not pending(pid, number), "the signal to be taken")
    command.signal(signal.SIGUSR1)
    status, out, err = command.end()
    assert (status, out.split()) == (0, [str(int(number))] * seen + [str(int(signal.SIGUSR1))]), err


def pending(pid: int, number: int) -> bool:
    from broker.process.signals import pending_for

    return number in pending_for(pid)


# -- directories and names -----------------------------------------------------------------------------------------


LEAVING = """
import os, sys
os.chdir(sys.argv[1])
os.rmdir(sys.argv[1])
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
IN_DIRECTORY = """
import sys
sys.path.insert(0, "")
from broker import Broker
with Broker({"double": sys.argv[1]}, name=sys.argv[2]):
    pass
"""


def test_a_working_directory_that_is_gone(place: Path) -> None:
    """Command and `Broker` start in a directory that has been removed; a relative address is refused in one line."""
    gone = place / "gone"
    gone.mkdir()
    program = LEAVING

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        gone.mkdir(exist_ok=True)
        return subprocess.run(
            [sys.executable, "-c", program, str(gone), *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    done = run("-m", "broker", "run", "--name", str(place / "b.sock"), *MODEL, "--", "true")
    assert done.returncode == 0, done.stderr
    done = run("-m", "broker", "run", "--name", "./b.sock", *MODEL, "--", "true")
    assert done.returncode == 2
    assert "working directory has been removed: give the whole path" in done.stderr
    assert "Traceback" not in done.stderr
    done = run("-c", IN_DIRECTORY, SOURCES["double"], str(place / "c.sock"))
    assert done.returncode == 0, done.stderr


def test_names_that_are_no_utf8(place: Path) -> None:
    """Socket, models and working directory in a folder with a Latin-1 name: it works, or is one line."""
    folder = os.fsencode(place) + b"/gr\xf6\xdfe"
    os.mkdir(folder)
    shutil.copy(ROOT / "tests/process/models.py", folder + b"/odd_models.py")

    def run(model: bytes, *command: bytes) -> subprocess.CompletedProcess[bytes]:
        words = [
            b"-m",
            b"broker",
            b"run",
            b"--name",
            folder + b"/b.sock",
            b"--model",
            b"double=" + model,
            b"--",
        ]
        environment: dict[Any, Any] = {**os.environb, b"PYTHONPATH": folder + b":" + os.fsencode(ROOT)}
        return subprocess.run(
            [os.fsencode(sys.executable), *words, *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )

    broker = [os.fsencode(sys.executable), b"-m", b"broker"]
    for command in (b"status", b"stats", b"models"):
        done = run(b"odd_models:double", *broker, command)
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    done = run(folder + b"/missing", b"true")
    assert (done.returncode, b"Traceback" in done.stderr) == (1, False), done.stderr
    assert b"does not exist" in done.stderr
