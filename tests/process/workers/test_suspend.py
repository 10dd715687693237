"""SIGSTOP and SIGCONT, as a shell's Ctrl-Z, a debugger or a container's freezer send them: nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

import worker_client
from tests.brokers import TestBroker, folder, serving, wait_until
from tests.commands import command_of
from tests.process.models import SOURCES
from tests.workers import Talk, worker
from worker_client import Client, DeadlineExceeded

ROOT = Path(__file__).parents[3]
MODELS = ("double", "tell")
ROW = np.ones((1, 4), np.float32)


def end_of(broker: TestBroker) -> int:
    """The exit status of a broker that ends by itself."""
    engine = broker.broker._process
    assert engine is not None
    process = engine._process
    assert process is not None
    if not process.wait(60):
        process.kill()
        raise AssertionError("it does not end")
    assert process.status is not None
    return process.status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_signal_to_a_suspended_broker_is_obeyed(number: signal.Signals) -> None:
    """A broker that is told to stop while it is suspended stops when it goes on, whichever thread gets the signal."""
    for _ in range(2):
        with serving("double") as broker:
            broker.signal(signal.SIGSTOP)
            broker.signal(number)
            broker.signal(signal.SIGCONT)
            assert end_of(broker) == 0
            assert broker.names() == []


def test_the_parents_end_is_seen_after_a_suspension() -> None:
    """A broker whose parent ends while it is suspended stops when it goes on."""
    for _ in range(2):
        with serving("double") as broker:
            broker.signal(signal.SIGSTOP)
            process = broker.broker._process._process  # type: ignore[union-attr]
            process.stdin.close()  # type: ignore[union-attr]
            broker.signal(signal.SIGCONT)
            assert end_of(broker) == 0


COMMAND = """
import signal, sys, time
got = set()
wanted = {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
for number in wanted:
    signal.signal(number, lambda number, frame: got.add(number))
print("ready", flush=True)
while not (wanted <= got if sys.argv[1] == "all" else got):
    time.sleep(0.005)
sys.exit(40)
"""


def broker_run(address: str, *arguments: str) -> subprocess.Popen[str]:
    """`onesession run` with the command above; returns when that is ready."""
    words = [
        "run",
        "--name",
        address,
        "--model",
        f"double={SOURCES['double']}",
        "--",
        sys.executable,
        "-c",
        COMMAND,
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", *words, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_broker_run_loses_no_signal_in_a_burst() -> None:
    """Signals that come faster than `onesession run` passes them on neither kill it nor get lost with their kind."""
    signals = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP]
    for _ in range(3):
        with folder() as place, broker_run(f"{place}/b.sock", "all") as process:
            for number in signals * 200:
                process.send_signal(number)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 40


def test_broker_run_sees_its_command_end_while_suspended() -> None:
    """A command that ends while `onesession run` is suspended ends it when it goes on."""
    for _ in range(3):
        with folder() as place, broker_run(f"{place}/b.sock", "any") as process:
            child = command_of(process.pid)
            process.send_signal(signal.SIGSTOP)
            child.send_signal(signal.SIGUSR1)
            wait_until(lambda child=child: child.status() == psutil.STATUS_ZOMBIE, "the command's end")
            process.send_signal(signal.SIGCONT)
            assert process.wait(60) == 40


def test_calls_outlast_a_suspended_broker(broker: TestBroker, client: Client) -> None:
    """Calls made while the broker is suspended are answered when it goes on; those with no time left are told."""
    model = client.model("double")
    model.predict(ROW)
    for value in range(5):
        broker.signal(signal.SIGSTOP)
        with pytest.raises(DeadlineExceeded):
            model.predict(ROW, timeout=0.02)
        futures = [model.submit(ROW * value) for _ in range(5)]
        broker.signal(signal.SIGCONT)
        for future in futures:
            np.testing.assert_array_equal(future.result(60), ROW * 2 * value)


def test_suspended_workers_hold_up_nobody(broker: TestBroker, client: Client) -> None:
    """Workers that are suspended at any moment of their calls delay no other, and go on where they were."""

    def calls(talk: Talk) -> int:
        model = worker_client.connect(broker.address).model("tell")
        talk.say()
        for call in range(4000):
            x = np.full((1, 4), call, np.float32)
            y = model.predict({"x": x, "row": np.array([call])}, timeout=100)["y"]
            np.testing.assert_array_equal(y, x * 2.0 + call)
        return 4000

    model = client.model("double")
    with worker(calls, talk=True) as one, worker(calls, talk=True) as other:
        one.hear()
        other.hear()
        for value in range(30):
            for each in (one, other):
                os.kill(each.pid, signal.SIGSTOP)
            for _ in range(10):
                np.testing.assert_array_equal(model.predict(ROW * value, timeout=60), ROW * 2 * value)
            for each in (one, other):
                os.kill(each.pid, signal.SIGCONT)
        assert (one.result(), other.result()) == (4000, 4000)
    wait_until(lambda: broker.workers() == [os.getpid()], "the workers' end at the broker")
