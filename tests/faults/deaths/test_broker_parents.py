"""A broker and the process that started it: the broker never outlives its parent, whatever is killed or forked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from broker import Broker
from tests import brokers
from tests.brokers import TestBroker, wait_until
from tests.process.models import sources
from tests.workers import Talk, worker
from worker_client import BrokerError, Client

MODELS = ("double", "gated", "gated_inline", "gated_produce")
ROOT = Path(__file__).parents[3]
SOON_S = 20.0
"""Generous, and well before any call's own time-out of 60 s."""


def check(client: Client, value: float) -> None:
    x = np.full((1, 4), value, np.float32)
    assert (client.model("double").predict(x) == 2 * value).all()


def embed(talk: Talk, address: str) -> None:
    """A process that starts its own broker."""
    with Broker(sources("double"), name=address) as broker:
        talk.say(broker.pid)
        talk.hear()


def test_a_broker_ends_with_its_parent() -> None:
    """The broker of a process that is killed stops in order: no process, no socket, no name is left."""
    with brokers.folder() as place, worker(embed, str(place / "b.sock"), talk=True) as parent:
        engine = psutil.Process(parent.hear())
        parent.kill()
        wait_until(lambda: not alive(engine), "the engine's end")
        assert os.listdir(place) == []


def embed_and_fork(talk: Talk, address: str) -> None:
    with Broker(sources("double"), name=address) as broker, worker(sleep_until_killed, talk=True) as child:
        talk.say((broker.pid, child.pid))
        talk.hear()
        broker.stop()
        talk.say("stopped")
        talk.hear()


def sleep_until_killed(talk: Talk) -> None:
    signal.pause()


def test_children_of_its_parent_do_not_keep_a_broker_alive() -> None:
    """A broker ends with the process that started it, even if forked workers of that process live on."""
    with brokers.folder() as place, worker(embed_and_fork, str(place / "b.sock"), talk=True) as parent:
        engine, child = (psutil.Process(pid) for pid in parent.hear())
        try:
            parent.kill()
            wait_until(lambda: not alive(engine), "the engine's end")
        finally:
            child.kill()


def test_live_children_do_not_delay_a_stop() -> None:
    """Stopping a broker does not wait for the forked workers of the process that stops it."""
    with brokers.folder() as place, worker(embed_and_fork, str(place / "b.sock"), talk=True) as parent:
        engine, child = (psutil.Process(pid) for pid in parent.hear())
        try:
            parent.say()
            wait_until(lambda: not alive(engine), "the engine's end", SOON_S)
            assert parent.hear() == "stopped"
        finally:
            child.kill()
            parent.kill()


def test_a_forked_child_does_not_stop_its_parents_broker(broker: TestBroker, client: Client) -> None:
    """A child that leaves the `with` block it was forked in, or drops the handle, leaves its parent's broker alone."""
    pid = os.fork()
    if not pid:
        broker.broker.stop()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    check(client, 1.0)


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_broker_that_cannot_start_says_why_and_leaves_nothing() -> None:
    """A start that fails raises the broker's own message; no process, socket or lock is left."""
    with brokers.folder() as place:
        with pytest.raises(BrokerError, match="no_such_module"):
            Broker({"m": "no_such_module:f"}, name=str(place / "b.sock")).start()
        assert os.listdir(place) == []


def test_a_model_that_kills_the_broker_at_start_is_reported() -> None:
    """A broker's process that dies before it is ready is reported with its exit status."""
    with brokers.folder() as place:
        (place / "deadly.py").write_text("import os\nos._exit(7)\n")
        sys.path.insert(0, str(place))
        try:
            with pytest.raises(BrokerError, match="status 7"):
                Broker({"m": "deadly:f"}, name=str(place / "b.sock")).start()
        finally:
            sys.path.remove(str(place))


def test_python_exits_cleanly_with_a_client_attached(broker: TestBroker) -> None:
    """A worker that ends without closing its client ends at once, with status 0 and nothing on stderr."""
    program = (
        "import numpy, worker_client\n"
        f"model = worker_client.connect({broker.address!r}).model('double')\n"
        "x = numpy.ones((1, 4), 'float32')\n"
        "model.predict(x); model.submit(x).result()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
