"""`onesession stats`, `top`, `trace` and `status --wait-ready`, asked about a real broker under known load."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import worker_client
from broker.cli import main
from broker.control_plane.query import ask
from tests.brokers import PATIENCE_S, TestBroker, folder, wait_until
from tests.commands import ROOT, commands
from worker_client import BrokerError, Client, ModelFailed

MODELS = ("double", "picky", "gated")


def run(*words: str, status: int = 0) -> str:
    result = CliRunner().invoke(main, words, env={"COLUMNS": "80"})
    assert result.exit_code == status, result.output
    return str(result.output)


def rows(count: int, value: float = 1) -> np.ndarray:
    return np.full((count, 4), value, np.float32)


@pytest.fixture
def loaded(broker: TestBroker, client: Client) -> dict[str, Any]:
    """What the broker told before 12 requests of 2 rows and 3 that failed."""
    before = ask(broker.address, "stats")["stats"]
    for _ in range(12):
        client.model("double").predict(rows(2))
    for _ in range(3):
        with pytest.raises(ModelFailed):
            client.model("picky").predict(rows(1, 13))
    return before


# -- stats -----------------------------------------------------------------------------------------------------------


def test_stats_for_programs(broker: TestBroker, client: Client, loaded: dict[str, Any]):
    """What was sent is what is told, and each stage has its times."""
    told = json.loads(run("stats", "--json", "--name", broker.address))
    assert told["pid"] == broker.pid
    assert len(told["workers"]) == 1
    before = {each["model"]: each["requests"] for each in loaded["signatures"]}
    models = {each["model"]: each for each in told["signatures"]}
    double = models["double"]
    assert double["requests"] - before["double"] == 12
    assert double["rows_per_run"] == 2
    assert double["batch_rows"] == {"2": double["runs"]}
    for stage in ("queue", "wait", "run", "copy", "total"):
        quantiles = double["us"][stage]
        assert 0 < quantiles["p50"] <= quantiles["p90"] <= quantiles["p99"]
    assert models["picky"]["errors"]["ModelFailed"] == models["picky"]["requests"] >= 3


def test_stats_for_people(broker: TestBroker, loaded: dict[str, Any]):
    """Tables of 80 columns, and the errors by class."""
    text = run("stats", "--name", broker.address)
    assert max(map(len, text.splitlines()[1:])) <= 80
    assert re.search(r"double +\d+ ", text)
    assert re.search(r"double( +[\d.]+[um]?s/[\d.]+[um]?s){5}", text)
    assert re.search(r"picky: \d+ ModelFailed", text)


def test_stats_of_a_time(broker: TestBroker, client: Client):
    """With --seconds, what came before is not told."""
    client.model("double").predict(rows(1))
    told = json.loads(run("stats", "--json", "--seconds", "0.1", "--name", broker.address))
    assert {each["requests"] for each in told["signatures"]} == {0}


# -- trace -----------------------------------------------------------------------------------------------------------


def test_a_trace_shows_every_request(broker: TestBroker, client: Client, tmp_path: Path):
    """On its worker's line and its run's, with an arrow; slices of one line do not overlap."""
    path = tmp_path / "trace.json"
    with threading_command(["trace", "--seconds", "1", "-o", str(path), "--name", broker.address]) as ended:
        wait_until(lambda: traced(broker), "the trace to begin")
        for number in range(20):
            client.model("double").predict(rows(1 + number % 3))
    assert ended == [0]
    events = json.loads(path.read_text())["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    requests = [each for each in slices if each["cat"] == "request" and each["name"] == "double"]
    runs = [each for each in slices if each["cat"] == "batch" and each["name"] == "run"]
    assert len(requests) == len(runs) == 20
    assert {each["pid"] for each in requests} == {os.getpid()}
    assert {each["pid"] for each in runs} == {broker.pid}
    assert all(each["args"]["answered"] for each in requests)
    assert len([each for each in events if each["ph"] == "s"]) == 20
    assert len([each for each in events if each["ph"] == "f"]) == 20
    names = {each["args"]["name"] for each in events if each["ph"] == "M" and each["name"] == "thread_name"}
    assert "intake" in names
    for group in (requests, [each for each in slices if each["name"].startswith("double: ")]):
        ordered = sorted(group, key=lambda each: each["ts"])
        assert all(one["ts"] + one["dur"] <= other["ts"] for one, other in itertools.pairwise(ordered))
    assert not traced(broker)


def traced(broker: TestBroker) -> bool:
    """Whether the broker records at this moment: one that does answers with what it has."""
    return bool(ask(broker.address, "trace", do="take")["on"])


@contextlib.contextmanager
def threading_command(words: list[str]) -> Iterator[list[int]]:
    """Run a command beside the block; its exit status is in the list afterwards."""
    ended: list[int] = []
    thread = threading.Thread(target=lambda: ended.append(CliRunner().invoke(main, words).exit_code))
    thread.start()
    yield ended
    thread.join(PATIENCE_S)


def test_a_trace_of_nothing(broker: TestBroker, tmp_path: Path):
    """An empty file of the right form; nonsense is refused."""
    path = tmp_path / "trace.json"
    run("trace", "--seconds", "0.1", "-o", str(path), "--name", broker.address)
    assert json.loads(path.read_text())["traceEvents"] == []
    with pytest.raises(BrokerError, match="start, take or stop"):
        ask(broker.address, "trace", do="dance")


# -- top -------------------------------------------------------------------------------------------------------------


class Terminal:
    """`onesession top` at a terminal of its own, 80 columns wide."""

    def __init__(self, address: str) -> None:
        self.master, self.slave = pty.openpty()
        ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "broker", "top", "--interval", "0.1", "--name", address],
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm-256color"},
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
        )
        self.text = ""

    def read_until(self, pattern: str) -> None:
        def found() -> bool:
            if select.select([self.master], [], [], 0.05)[0]:
                self.text += os.read(self.master, 65536).decode(errors="replace")
            return re.search(pattern, self.text, re.DOTALL) is not None

        wait_until(found, f"{pattern!r} on the screen")

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def end(self) -> int:
        status = self.process.wait(PATIENCE_S)
        self.read_until("\x1b\\[\\?1049l")
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(broker: TestBroker) -> Iterator[Terminal]:
    made = Terminal(broker.address)
    yield made
    made.close()


@pytest.mark.parametrize(("key", "status"), [(b"q", 0), (b"\x03", 130)], ids=["q", "Ctrl-C"])
def test_top_shows_the_broker_and_ends(
    broker: TestBroker, client: Client, loaded: dict[str, Any], terminal: Terminal, key: bytes, status: int
):
    """On a screen of its own; the terminal is as it was afterwards."""
    terminal.read_until(f"broker {broker.pid}.*double.*picky.*{os.getpid()} .*q quits")
    terminal.press(key)
    assert terminal.end() == status
    assert "Traceback" not in terminal.text
    assert "\x1b[?1049h" in terminal.text  # another screen, and a cursor that is shown again
    assert terminal.text.rfind("\x1b[?25h") > terminal.text.rfind("\x1b[?25l")
    assert termios.tcgetattr(terminal.slave) == terminal.before


def test_top_has_keys(broker: TestBroker, client: Client, loaded: dict[str, Any], terminal: Terminal):
    """They sort, filter and help; an arrow does nothing."""
    terminal.read_until("double.*picky.*q quits, h helps")
    terminal.press(b"\x1b[A")
    terminal.press(b"h")
    terminal.read_until("sort by the next of")
    terminal.press(b"h")
    terminal.press(b"ss")
    terminal.read_until("sorted by load")
    terminal.text = ""
    terminal.press(b"/pick\r")
    terminal.read_until('picky.*only "pick"')
    terminal.text = ""
    terminal.read_until("picky.*q quits")
    assert "double" not in terminal.text
    terminal.press(b"q")
    assert terminal.end() == 0


def test_top_takes_its_view_from_options(broker: TestBroker, client: Client, loaded: dict[str, Any]):
    """The same as by keys."""
    words = ("top", "--once", "--interval", "0.1", "--name", broker.address)
    text = run(*words, "--filter", "PICK", "--sort", "p99")
    assert "picky" in text
    assert "double" not in text
    assert 'sorted by p99, only "PICK"' in text


def test_top_once(broker: TestBroker, client: Client, loaded: dict[str, Any]):
    """A frame for those who have no terminal; without --once they are told."""
    text = run("top", "--once", "--interval", "0.1", "--name", broker.address)
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"double +0", text)
    assert str(os.getpid()) in text
    assert "needs a terminal" in run("top", "--name", broker.address, status=1)


# -- status --wait-ready ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [(), ("--supervise",)], ids=["alone", "supervised"])
def test_a_failed_start_is_waited_for_no_longer(how: tuple[str, ...]):
    """The reason is told at once, as the broker's own log has it; nothing stays of the wait."""
    with folder() as place, commands(place) as start:
        waiting = start("status", "--wait-ready", "600")
        wait_until((place / "b.sock.lock").exists, "it to wait")
        serve = start("serve", "--model", "double=tests.process.models:nothing", *how)
        status, _, err = waiting.end()
        assert (status, err.count("\n")) == (1, 1)
        assert f"the broker at {place}/b.sock could not start: model 'double' from" in err
        assert "has no attribute 'nothing'" in err
        assert serve.end()[0] == 1
        assert list(place.glob("b.sock*")) == []


def test_a_broker_that_is_killed_while_it_loads_is_waited_for_no_longer():
    """It can say nothing; and what it has left is no failure to who comes later."""
    with folder() as place, commands(place) as start:
        waiting = start("status", "--wait-ready", "600")
        wait_until((place / "b.sock.lock").exists, "it to wait")
        serve = start("serve", "--model", "m=tests.process.slow_to_load:endless")
        serve.wait_for("loading m")
        serve.signal(signal.SIGKILL)
        status, _, err = waiting.end()
        assert status == 1
        assert "could not start: its process ended before it had loaded its models" in err
        again = start("status", "--wait-ready", "600")
        serve = start("serve", "--model", "double=tests.process.models:double")
        assert again.end()[0] == 0
        serve.signal(signal.SIGTERM)
        assert serve.end()[0] == 0


def test_who_waits_for_no_name_takes_the_broker_that_comes():
    """Whatever it is called, as the other commands do."""
    with folder() as place, commands(place) as start:
        environment = {key: value for key, value in os.environ.items() if key != "BROKER_ADDRESS"}
        environment["XDG_RUNTIME_DIR"] = str(place)
        waiting = start("status", "--wait-ready", "600", "--json", env=environment)
        wait_until((place / "onesession" / "default.sock.lock").exists, "it to wait")
        serve = start(
            "serve", "--name", "mine", "--model", "double=tests.process.models:double", env=environment
        )
        status, out, err = waiting.end()
        assert status == 0, err
        assert json.loads(out)["address"] == str(place / "onesession" / "mine.sock")
        serve.signal(signal.SIGTERM)
        assert serve.end()[0] == 0
        assert list((place / "onesession").iterdir()) == []


def test_wait_ready():
    """Waits for a broker that is still to come, and says what it waited for in vain."""
    with folder() as place, commands(place) as start:
        address = str(place / "b.sock")
        assert address in run("status", "--wait-ready", "0.1", "--name", address, status=1)
        waiting = start("status", "--wait-ready", "60", "--json")
        serve = start("serve", "--model", "double=tests.process.models:double", "--log-format", "json")
        status, out, err = waiting.end()
        assert status == 0, err
        assert json.loads(out)["address"] == address
        with worker_client.connect(address) as client:
            np.testing.assert_array_equal(client.model("double").predict(rows(1)), rows(1, 2))
        serve.signal(signal.SIGTERM)
        status, _, err = serve.end()
        assert status == 0
        events = [json.loads(line) for line in err.splitlines()]
        messages = [event["message"] for event in events]
        assert messages[0] == "loading double"
        assert messages[1] == f"serving double at {address}"
        assert messages[-1] == "stopping"
