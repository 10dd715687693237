"""`Broker.run_workers`: forked workers, their replacements, and a broker in the parent that serves them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import worker_client
from broker import Broker
from tests import brokers
from tests.brokers import wait_until
from tests.process.models import sources
from tests.workers import Talk, in_child, worker
from worker_client import BrokerError


@pytest.fixture
def place() -> Iterator[Path]:
    with brokers.folder() as path:
        yield path


def run(place: Path, target: Callable[..., Any], processes: int, *args: Any, **options: Any) -> int:
    return Broker(sources("double"), name=str(place / "b.sock")).run_workers(
        target, processes, args, **options
    )


def call_right() -> None:
    x = np.full((1, 4), os.getpid() % 1000, np.float32)
    assert (worker_client.connect().model("double").predict(x) == 2 * x).all()


def note_index(place: Path) -> None:
    call_right()
    (place / f"index.{os.environ['BROKER_WORKER_INDEX']}").touch(exist_ok=False)


def test_returns_when_all_workers_are_done(place: Path) -> None:
    """Each worker has a number of its own and finds its broker without an address; then all is gone."""
    assert run(place, note_index, 5, place) == 0
    assert sorted(path.name for path in place.iterdir()) == [f"index.{n}" for n in range(5)]


def fail_once(place: Path, how: str) -> None:
    """The first to come here fails."""
    call_right()
    try:
        (place / "failed").touch(exist_ok=False)
    except FileExistsError:
        return
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        sys.exit(3)
    elif how == "_exit":
        os._exit(4)
    sys.stderr.close()  # multiprocessing would print the traceback
    raise ValueError("in a worker")


@pytest.mark.parametrize("how", ["killed", "exit", "_exit", "raised"])
def test_a_worker_that_fails_is_replaced(place: Path, how: str) -> None:
    """Whichever way a worker dies, another one takes its number, and the count of these is returned."""
    assert run(place, fail_once, 3, place, how) == 1


def fail_always(place: Path) -> None:
    (place / f"try.{os.getpid()}").touch()
    os._exit(5)


def test_gives_up_after_max_restarts(place: Path) -> None:
    """Workers that keep dying are replaced `max_restarts` times; then their status is raised."""
    with pytest.raises(BrokerError, match="status 5 after 3 replacements"):
        run(place, fail_always, 1, place, max_restarts=3)
    assert len(list(place.glob("try.*"))) == 4
    assert not (place / "b.sock").exists()


def wait_for_ever(place: Path) -> None:
    call_right()
    (place / f"waits.{os.getpid()}").touch()
    threading.Event().wait()


def fail_when_others_wait(place: Path) -> None:
    if os.environ["BROKER_WORKER_INDEX"] == "0":
        wait_until(lambda: len(list(place.glob("waits.*"))) == 2, "the others to wait")
        os._exit(6)
    wait_for_ever(place)


def test_giving_up_ends_the_other_workers(place: Path) -> None:
    """When it gives up, the workers that still run are ended, with their broker."""
    with pytest.raises(BrokerError, match="giving up"):
        run(place, fail_when_others_wait, 3, place, max_restarts=0)
    waiting = [int(path.suffix[1:]) for path in place.glob("waits.*")]
    assert len(waiting) == 2
    assert not any(psutil.pid_exists(pid) for pid in waiting)


def serve(talk: Talk, place: Path) -> None:
    talk.say(os.getpid())
    run(place, wait_for_ever, 2, place)


def test_workers_end_with_the_process_that_serves_them(place: Path) -> None:
    """If the parent is killed, its workers do not live on, and the next broker starts at its address."""
    with worker(serve, place, talk=True) as parent:
        parent.hear()
        wait_until(lambda: len(list(place.glob("waits.*"))) == 2, "the workers to run")
        waiting = [int(path.suffix[1:]) for path in place.glob("waits.*")]
        parent.kill()
        wait_until(lambda: not any(running(pid) for pid in waiting), "the workers' end")
    assert run(place, call_right, 1) == 0


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_not_inside_a_broker_that_runs_already(place: Path) -> None:
    """A started Broker has a process of its own; to serve from this one as well is refused."""
    with Broker(sources("double"), name=str(place / "b.sock")) as broker:
        with pytest.raises(BrokerError, match="run_workers"):
            broker.run_workers(call_right, 1)
        with pytest.raises(BrokerError, match="already running"):
            broker.start()


def test_an_address_in_use_is_refused(place: Path) -> None:
    """No worker is forked for an address that another broker serves."""
    with Broker(sources("double"), name=str(place / "b.sock")) as broker:
        with pytest.raises(BrokerError, match=f"pid {broker.pid}"):
            run(place, fail_always, 2, place)
        assert not list(place.glob("try.*"))


def test_in_a_child_of_a_process_with_a_client(place: Path) -> None:
    """A forked child may serve workers of its own, though its parent uses another broker."""
    path = str(place / "parents.sock")
    with Broker(sources("double"), name=path), worker_client.connect(path) as client:
        assert (client.model("double").predict(np.ones((1, 4), np.float32)) == 2).all()
        assert in_child(run, place, call_right, 3) == 0
        assert (client.model("double").predict(np.ones((1, 4), np.float32)) == 2).all()
