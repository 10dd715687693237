"""The examples of engines, run as their readers run them: every answer right, many processes, one broker that ends.

`make test-engines` installs the engines into an environment of their own; elsewhere those that are missing are skipped.
An engine that listens on all interfaces does so in a network namespace, where there is nobody.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.node import namespace
from tests import nodes
from tests.brokers import wait_until
from tests.nodes import Node

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"

pytestmark = pytest.mark.timeout(420)


@pytest.fixture
def node() -> Iterator[Node]:
    with nodes.node() as node:
        yield node


def run(node: Node, program: str) -> list[str]:
    """What an example prints, in a network namespace of its own; its broker has ended then."""
    if obstacle := namespace.obstacle():
        pytest.skip(obstacle)
    folders = os.pathsep.join(map(str, (ROOT, EXAMPLES)))
    done = subprocess.run(
        [*namespace.COMMAND, sys.executable, program],
        cwd=EXAMPLES,
        env={**node.environment, "PYTHONPATH": folders, "IDLE_SECONDS": "5", "TMPDIR": str(node.place)},
        capture_output=True,
        text=True,
        timeout=360,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wait_until(lambda: not node.brokers(), "the broker's end")
    assert node.files() == []
    return [line for line in done.stdout.splitlines() if "right answers" in line]


def needs(*modules: str) -> pytest.MarkDecorator:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)}: see `make test-engines`")


@needs("distributed")
def test_dask_distributed(node: Node) -> None:
    assert run(node, "dask_app.py") == ["tasks: 1000 right answers, 3 processes, 1 broker"]


@needs("ray", "pyarrow")
def test_ray_tasks_actors_and_data(node: Node) -> None:
    lines = run(node, "ray_app.py")
    assert [line.partition(":")[0] for line in lines] == ["actors", "tasks", "map_batches"]
    assert all(line.endswith(" 1 broker") and "1000 right answers" in line for line in lines)


@needs("pyspark", "pandas", "pyarrow")
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs a Java runtime")
def test_pyspark(node: Node) -> None:
    batches, frames = run(node, "spark_app.py")
    assert batches.endswith("predict_batch_udf: 1000 right answers")
    assert frames.endswith("1000 right answers, 3 processes, 1 broker")


@needs("apache_beam")
def test_beam_in_many_processes(node: Node) -> None:
    (line,) = run(node, "beam_app.py")
    assert line == "DoFn: 1000 right answers, 2 processes, 1 broker"
