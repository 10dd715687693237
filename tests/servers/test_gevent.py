"""Under gevent's monkey patching no call blocks the hub."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.brokers import TestBroker, serving
from tests.servers.running import ROOT

pytest.importorskip("gevent")

CASES = (
    "many_at_once",
    "given_up",
    "refused_and_failed",
    "futures_and_requests",
    "native_threads",
    "attached_by_many",
)


@pytest.fixture
def broker() -> Iterator[TestBroker]:
    with serving("double", "picky", "gated") as running:
        yield running


def start(case: str, broker: TestBroker) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.servers.green_program", case, broker.address, str(broker.gate.folder)],
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
def test_a_gevent_program(case: str, broker: TestBroker) -> None:
    """Calls wait while other greenlets run; errors, timeouts and kills come out and return the slot; nothing is told
    on stderr."""
    assert outcome(start(case, broker)) == ("ok\n", "")


def test_a_brokers_death_wakes_every_greenlet(broker: TestBroker) -> None:
    """Greenlets that wait for a killed broker get BrokerUnavailable."""
    program = start("orphaned", broker)
    broker.gate.wait_for(9)
    os.kill(broker.pid, signal.SIGKILL)
    assert outcome(program) == ("ok\n", "")


def test_eventlet_is_refused(broker: TestBroker) -> None:
    """Rather than to block its hub, the first call says what to use."""
    pytest.importorskip("eventlet")
    text = f"""
import warnings; warnings.simplefilter("ignore")
import eventlet; eventlet.monkey_patch()
import worker_client
try: worker_client.connect({broker.address!r}).models()
except worker_client.BrokerError as error: print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert "use gevent or threads" in done.stdout, done.stderr
