"""Which brokers there are, and which of them a command asks that was given no name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import worker_client
from broker.cli import main
from broker.control_plane import locks
from broker.sharing.memory import sweep
from tests.brokers import folder, serving
from tests.commands import PATIENCE_S, ROOT
from tests.nodes import node
from worker_client.wire.address import name_prefix, runtime_directory


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with folder() as place:
        monkeypatch.setenv("XDG_RUNTIME_DIR", os.fspath(place))
        for variable in ("RUNTIME_DIRECTORY", "BROKER_ADDRESS"):
            monkeypatch.delenv(variable, raising=False)
        yield runtime_directory()
        for socket in runtime_directory().glob("*.sock"):  # what one has left that was killed
            sweep(name_prefix(socket))
            locks.of_names(socket).unlink(missing_ok=True)


def run(*words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "broker", *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def invoke(*words: str) -> tuple[int, str, str]:
    """The same in this process, which is quicker."""
    done = CliRunner().invoke(main, words)
    return done.exit_code, done.stdout, done.stderr


def listed() -> list[dict[str, Any]]:
    return list(json.loads(run("ls", "--json")[1]))


def test_none(runtime: Path) -> None:
    assert run("ls") == (0, "", f"no broker serves in {runtime}\n")
    status, _, said = run("stats")
    assert status == 1
    assert f"no broker answers at {runtime}/default.sock" in said


def test_the_only_one_is_asked(runtime: Path) -> None:
    with serving("double", path=runtime / "mine.sock") as broker, worker_client.connect("mine") as client:
        client.models()
        (found,) = listed()
        assert found.pop("uptime_seconds") >= 0
        assert found == {
            "name": "mine",
            "address": os.fspath(runtime / "mine.sock"),
            "pid": broker.pid,
            "state": "serving",
            "models": ["double"],
            "workers": 1,
        }
        for command in ("status", "stats", "models"):
            status, shown, said = run(command)
            assert (status, said) == (0, "")
            assert "double" in shown


COMMANDS = {
    "status": ("status",),
    "stats": ("stats",),
    "top": ("top", "--once", "--interval", "0.1"),
    "models": ("models",),
    "reload": ("reload",),
    "trace": ("trace", "--seconds", "0.1", "-o", os.devnull),
    "doctor": ("doctor",),
}


def test_every_command_takes_the_only_one_lists_several_and_says_how_to_start_one(runtime: Path) -> None:
    """With the name, the process and the models of each; a `default` goes before others."""
    for name, words in COMMANDS.items():
        status, shown, said = invoke(*words)
        if name == "doctor":  # which has more to tell
            assert "start one: onesession serve --model NAME=PATH" in " ".join(shown.split())
            continue
        assert (status, said.count("\n")) == (1, 1)
        assert said.startswith(f"Error: no broker answers at {runtime}/default.sock")
        assert "Start one with `onesession serve --model NAME=PATH`" in said
    with serving("double", path=runtime / "b.sock") as b:
        for words in COMMANDS.values():
            assert "Error: " not in invoke(*words)[2]
        with serving("double", "mixed", path=runtime / "a.sock") as a:
            assert [found["name"] for found in listed()] == ["a", "b"]
            told = f"a (pid {a.pid}: double, mixed), b (pid {b.pid}: double)"
            for words in COMMANDS.values():
                status, _, said = invoke(*words)
                assert said == f"Error: several brokers serve in {runtime}: {told}; choose one with --name\n"
                assert status == 2


def test_of_several_none_is_taken_but_the_default(runtime: Path) -> None:
    with serving("double", path=runtime / "a.sock"), serving("double", path=runtime / "b.sock"):
        assert run("models", "--name", "b")[0] == 0
        with serving("mixed", path=runtime / "default.sock"):
            assert "mixed" in run("models")[1]


def test_one_that_does_not_answer_and_what_a_dead_one_left(runtime: Path) -> None:
    with serving("double", path=runtime / "dead.sock") as dead:
        dead.kill()
    with serving("double", path=runtime / "stopped.sock") as broker:
        broker.signal(signal.SIGSTOP)
        try:
            assert [(found["name"], found["state"]) for found in listed()] == [("stopped", "no answer")]
            assert "no answer" in run("ls")[1]
        finally:
            broker.signal(signal.SIGCONT)


def test_the_nodes_are_listed_and_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with node() as here:
        monkeypatch.setenv("XDG_RUNTIME_DIR", os.fspath(here.place))
        monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
        caller = here.caller()
        answer = caller.answer()
        assert [found["address"] for found in listed()] == [answer["address"]]
        assert "no broker answers" in run("stats")[2]
        caller.end()
        here.wait_for_end()
