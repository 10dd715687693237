"""`onesession node`, and what `onesession status` and `onesession doctor` say of the brokers that a node has."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import nodes
from tests.brokers import wait_until
from tests.nodes import RIGHT, Node

DOUBLE = "double=tests.process.models:double"


@pytest.fixture
def node() -> Iterator[Node]:
    with nodes.node() as node:
        yield node


def command(node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broker", *arguments],
        env=node.environment,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def finding(node: Node) -> dict[str, Any]:
    found = json.loads(command(node, "doctor", "--json").stdout)["findings"]
    return next(each for each in found if each["check"] == "node brokers")


def test_the_shell_gets_the_address_that_python_gets(node: Node) -> None:
    done = command(node, "node", DOUBLE, "--idle-seconds", "5")
    assert done.returncode == 0, done.stderr
    answer = node.call()
    assert (answer["address"], answer["y"]) == (done.stdout.strip(), RIGHT)
    said = command(node, "status").stdout
    assert "serves double, 0 workers, ends after 5 s without workers" in said
    assert finding(node)["level"] == "ok"
    node.wait_for_end()


def test_the_shell_hears_why_the_broker_cannot_start(node: Node) -> None:
    done = command(node, "node", "gone=/nonexistent/model")
    assert done.returncode == 1
    assert "cannot start" in done.stderr
    assert "/nonexistent/model does not exist" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "could not start (gone)" in finding(node)["found"]


def test_what_a_killed_broker_left_is_told_and_swept(node: Node) -> None:
    answer = node.call(idle_seconds=60)
    os.kill(answer["broker"], signal.SIGKILL)
    wait_until(lambda: not node.brokers() and not psutil.pid_exists(answer["broker"]), "the broker's death")
    told = finding(node)
    assert (told["level"], "has died (double)" in told["found"]) == ("warning", True)
    swept = json.loads(command(node, "doctor", "--sweep", "--json").stdout)["swept"]
    assert any(name.endswith(".log") for name in swept)
    assert node.files() == []


def test_a_supervised_broker_has_no_idle_end(node: Node) -> None:
    done = command(node, "serve", "--model", DOUBLE, "--supervise", "--idle-seconds", "1")
    assert done.returncode == 2
    assert "choose one" in done.stderr
