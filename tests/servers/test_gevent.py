"""Under the monkey patching of gevent or eventlet no call blocks the hub."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.brokers import TestBroker, serving
from tests.servers.running import ROOT

LIBRARIES = ("gevent", "eventlet")
MODELS = ("double", "picky", "gated")
CASES = (
    "many_at_once",
    "given_up",
    "refused_and_failed",
    "futures_and_requests",
    "native_threads",
    "native_threads_of_all_kinds",
    "native_threads_first",
    "closed_meanwhile",
    "in_an_event_loop",
    "attached_by_many",
    "closed_descriptors",
)


@pytest.fixture(scope="module", params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


@pytest.fixture(scope="module")
def broker(library: str) -> Iterator[TestBroker]:
    """One for each library: the numbers at its gate are a case's own."""
    with serving(*MODELS) as running:
        yield running


def start(library: str, case: str, broker: TestBroker) -> subprocess.Popen[str]:
    program = "tests.servers.green_program"
    return subprocess.Popen(
        [sys.executable, "-m", program, library, case, broker.address, str(broker.gate.folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(program: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return program.communicate(timeout=60)
    finally:
        program.kill()
        program.communicate()


@pytest.mark.parametrize("case", CASES)
def test_a_green_program(library: str, case: str, broker: TestBroker) -> None:
    """Calls wait while other greenlets run; errors, timeouts and kills propagate and the slot is released; nothing is
    written to stderr."""
    assert outcome(start(library, case, broker)) == ("ok\n", "")


def test_a_brokers_death_wakes_every_greenlet(library: str) -> None:
    """Greenlets that wait for a killed broker get BrokerUnavailable."""
    with serving(*MODELS) as broker:
        program = start(library, "orphaned", broker)
        broker.gate.wait_for(9)
        os.kill(broker.pid, signal.SIGKILL)
        assert outcome(program) == ("ok\n", "")
