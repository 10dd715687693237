"""The examples in the documentation do what they say, run as their readers run them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Brokers of examples have names: in a directory of their own, whose path is short, they meet no other."""
    with tempfile.TemporaryDirectory(prefix="onesession-examples-") as runtime:
        yield {**os.environ, "XDG_RUNTIME_DIR": runtime, "PYTHONPATH": str(ROOT)}


def test_producer_consumer_answers_every_item(environment: dict[str, str]) -> None:
    """A thousand items from a thread, a thousand answers, and their average is that of the numbers put in."""
    done = subprocess.run(
        [sys.executable, "docs/examples/producer_consumer.py"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1000 answers, on average 0.504\n"
    assert not done.stderr
