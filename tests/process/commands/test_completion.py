"""What a shell completes, asked of the real program with brokers that run, as the shell does it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import Broker
from tests import brokers
from tests.commands import PATIENCE_S
from tests.process.models import sources

PROGRAM = Path(sys.executable).with_name("onesession")


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Where the brokers `shop` and `shed` serve by name, and a socket that a dead one has left."""
    with brokers.folder() as place, pytest.MonkeyPatch.context() as patch:
        directory = place / "onesession"
        directory.mkdir(0o700)
        patch.setenv("RUNTIME_DIRECTORY", str(directory))
        patch.delenv("BROKER_ADDRESS", raising=False)
        (directory / "shut.sock").touch()
        with Broker(sources("double", "mixed"), name="shop"), Broker(sources("add"), name="shed"):
            yield directory


def completed(*words: str, program: str = "onesession") -> list[str]:
    """What bash is offered for the last word."""
    environment = {
        **os.environ,
        f"_{program.upper()}_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join([program, *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [PROGRAM.with_name(program)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize("command", ["status", "top", "reload", "serve", "run", "bench"])
def test_names_of_brokers_that_live(home: Path, command: str) -> None:
    assert completed(command, "--name", "sh") == ["plain,shed", "plain,shop"]
    assert completed(command, "--name", "sho") == ["plain,shop"]


def test_a_path_is_the_shells_to_complete(home: Path) -> None:
    assert completed("status", "--name", "/tmp/x") == ["file,/tmp/x"]


def test_models_of_the_broker_that_is_named(home: Path) -> None:
    """And nothing where it is not clear which one is meant, or none answers."""
    assert completed("reload", "--name", "shop", "") == ["plain,double", "plain,mixed"]
    assert completed("reload", "--name", "shop", "mi") == ["plain,mixed"]
    assert completed("reload", "--name", "shed", "") == ["plain,add"]
    assert completed("reload", "") == []
    assert completed("reload", "--name", "nobody", "") == []


@pytest.mark.parametrize("program", ["onesession", "broker"])
def test_commands_and_options(home: Path, program: str) -> None:
    assert completed("sta", program=program) == ["plain,stats", "plain,status"]
    assert "plain,--metrics-port" in completed("serve", "--metrics", program=program)


def test_bash_takes_it_as_documented(home: Path) -> None:
    """The line of the documentation, in a real bash: the word at the cursor is completed."""
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    script = """
    eval "$(_ONESESSION_COMPLETE=bash_source onesession)"
    COMP_WORDS=(onesession status --name sho) COMP_CWORD=3
    _onesession_completion onesession sho --name && echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("shop", "")
