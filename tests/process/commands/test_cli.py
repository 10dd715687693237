"""The command `broker` as users start it: exit statuses, signals, and what it says when something is missing."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import worker_client
from tests import brokers
from tests.brokers import Gate, TestBroker, serving, wait_until
from tests.commands import PATIENCE_S, WAITER, Command, command_of
from tests.process.models import SOURCES

DOUBLE = f"double={SOURCES['double']}"


def call(place: Path) -> None:
    with worker_client.connect(place / "b.sock") as client:
        assert (client.model("double").predict(np.ones((1, 4), np.float32)) == 2).all()


# -- serve ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_serve_ends_in_order_at_a_signal(start: Any, place: Path, number: int) -> None:
    """`onesession serve` says when it serves, and at a signal ends with status 0 and leaves nothing."""
    command = start("serve", "--model", DOUBLE)
    command.wait_for("serving double")
    call(place)
    command.signal(number)
    assert command.end()[0] == 0
    assert os.listdir(place) == []


def test_serve_drains_at_the_first_signal_and_gives_up_at_the_second(start: Any, place: Path) -> None:
    """The first Ctrl-C waits for accepted requests; the second ends it at once, with 128 + 2."""
    command = start("serve", "--model", f"gated={SOURCES['gated']}")
    command.wait_for("serving gated")
    gate = Gate(place)
    with worker_client.connect(place / "b.sock", retries=0) as client:
        inputs = {"number": np.array([1], np.int64), "x": np.ones(1, np.float32)}
        future = client.model("gated").submit(inputs)
        gate.wait_for(1)
        command.signal(signal.SIGINT)
        command.wait_for("stopping")
        assert command.process.poll() is None
        command.signal(signal.SIGINT)
        assert command.end()[0] == 128 + signal.SIGINT
        assert isinstance(future.exception(PATIENCE_S), worker_client.BrokerUnavailable)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 2, "--model"),
        (("--model", "no-equals-sign"), 2, "NAME=SOURCE"),
        (("--model", "m=/no/such/directory"), 1, "/no/such/directory"),
        (("--model", "m=no_such_module:f"), 1, "no_such_module"),
        (("--model", f"m={__name__}:call"), 1, "signature"),
        (("--model", DOUBLE, "--model", DOUBLE), 2, "double"),
        (("--model", DOUBLE, "--slots", "0"), 2, "slots"),
        (("--model", DOUBLE, "--slots", "many"), 2, "--slots"),
        (("--model", DOUBLE, "--name", "not a name"), 2, "not a name"),
        (("--model", DOUBLE, "--name", "/no/such/place/b.sock"), 1, "/no/such/place"),
        (("--model", DOUBLE, "--name", f"/tmp/{'long' * 30}/b.sock"), 2, "longer than"),
        (("--model", DOUBLE, "--no-such-option"), 2, "--no-such-option"),
    ],
)
def test_serve_says_what_is_wrong(
    start: Any, place: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    """What `onesession serve` cannot do it says in a line that names it, without a traceback, and leaves nothing."""
    found, _out, err = start("serve", *words).end()
    assert (found, said in err, "Traceback" in err) == (status, True, False), err
    assert os.listdir(place) == []


def test_serve_refuses_a_live_address(start: Any, place: Path) -> None:
    """A second `onesession serve` at one address names the pid of the first."""
    with serving("double", path=place / "b.sock") as broker:
        status, _out, err = start("serve", "--model", DOUBLE).end()
        assert status == 1
        assert f"pid {broker.pid}" in err
        call(place)


# -- run -----------------------------------------------------------------------------------------------------------


def run_python(start: Any, program: str, *arguments: str) -> Command:
    command: Command = start("run", "--model", DOUBLE, "--", sys.executable, "-c", program, *arguments)
    return command


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_run_returns_the_commands_status(start: Any, place: Path, status: int) -> None:
    """`onesession run` ends with its command, with the command's status, and its broker with it."""
    command = run_python(start, "import sys; sys.exit(int(sys.argv[1]))", str(status))
    assert command.end()[0] == status
    assert os.listdir(place) == []


def test_run_gives_its_command_the_broker(start: Any, place: Path) -> None:
    """The command finds the broker without an address, also in the processes that it forks."""
    program = (
        "import os, sys, numpy, worker_client\n"
        "model = worker_client.connect().model('double')\n"
        "x = numpy.ones((1, 4), 'float32')\n"
        "pids = [os.fork() for _ in range(2)]\n"
        "assert (model.predict(x) == 2).all()\n"
        "if all(pids): assert not any(os.waitpid(pid, 0)[1] for pid in pids)\n"
        "if all(pids): print(os.environ['BROKER_ADDRESS'])\n"
    )
    status, out, err = run_python(start, program).end()
    assert (status, out.strip()) == (0, str(place / "b.sock")), err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_run_tells_which_signal_killed_its_command(start: Any, number: int) -> None:
    """A command that dies of signal N makes `onesession run` end with 128 + N, as a shell does."""
    command = run_python(
        start,
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "os.kill(os.getpid(), int(sys.argv[1])); import time; time.sleep(60)",
        str(int(number)),
    )
    assert command.end()[0] == 128 + number


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH]
)
def test_run_passes_signals_on(start: Any, place: Path, number: int) -> None:
    """Signals that a prefork server is steered with reach the command, and it decides what they mean."""
    command = run_python(start, WAITER)
    command.wait_for("ready")
    command.signal(number)
    status, out, _err = command.end()
    assert (status, out) == (40, f"got {int(number)}\n")
    assert os.listdir(place) == []


def test_run_that_is_killed_takes_its_broker_with_it(start: Any, place: Path) -> None:
    """SIGKILL of `onesession run` ends the broker's process in order, even while the command lives on."""
    command = run_python(start, WAITER)
    command.wait_for("ready")
    engine = psutil.Process(brokers.ask(str(place / "b.sock"), "status")["status"]["pid"])
    child = command_of(command.process.pid)
    command.signal(signal.SIGKILL)
    command.process.wait(PATIENCE_S)
    try:
        wait_until(
            lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE, "the engine's end"
        )
    finally:
        child.kill()
    assert os.listdir(place) == []


@pytest.mark.parametrize(
    ("command", "said", "status"),
    [
        ("/no/such/program", "cannot run '/no/such/program': there is no such command", 127),
        ("nosuchcommand", "cannot run 'nosuchcommand': there is no such command", 127),
        ("/", "cannot run '/': it is not a program", 126),
        ("--wait", "No such option", 2),
    ],
)
def test_run_says_that_it_cannot_run_its_command(start: Any, command: str, said: str, status: int) -> None:
    """A command that cannot be started is named, before any model is loaded for it."""
    found, _out, err = start("run", "--model", "m=no.such.module:function", command).end()
    assert found == status
    assert said in err
    assert "Traceback" not in err


def test_run_without_its_model_never_starts_the_command(start: Any, place: Path) -> None:
    """With a model that cannot be loaded the command is not started."""
    flag = place / "started"
    status, _out, err = start("run", "--model", "m=no_such_module:f", "--", "touch", str(flag)).end()
    assert (status, flag.exists()) == (1, False)
    assert "no_such_module" in err


# -- status, models ------------------------------------------------------------------------------------------------


@pytest.fixture
def broker(place: Path) -> Iterator[TestBroker]:
    with serving("double", "mixed", path=place / "b.sock") as broker:
        yield broker


def test_status_and_models_show_what_runs(start: Any, broker: TestBroker, place: Path) -> None:
    """Both commands print what the broker serves, as a table and as JSON."""
    call(place)
    status, out, _err = start("status").end()
    assert status == 0
    assert f"pid {broker.pid}" in out
    status, out, _err = start("status", "--json").end()
    assert status == 0
    assert json.loads(out)["models"]["double"]["serving_default"]["requests"] == 1
    status, out, _err = start("models").end()
    assert status == 0
    assert "double" in out
    assert "mixed" in out
    status, out, _err = start("models", "--json", "--name", broker.address).end()
    assert status == 0
    assert set(json.loads(out)) == {"double", "mixed"}


@pytest.mark.parametrize("word", ["status", "models"])
def test_no_broker_is_said(start: Any, place: Path, word: str) -> None:
    """Without a broker they fail in one line that says how to start one."""
    status, out, err = start(word).end()
    assert (status, out) == (1, "")
    assert str(place / "b.sock") in err
    assert "onesession serve" in err
    assert "Traceback" not in err


def test_a_socket_that_is_no_brokers_is_said(start: Any, place: Path) -> None:
    """If something else answers at the address, they fail in one line too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(place / "b.sock"))
        listener.listen()

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            status, _out, err = start("status").end()
        finally:
            thread.join()
    assert status == 1
    assert "Traceback" not in err
