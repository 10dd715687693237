"""One broker a node: who starts it, who shares it, and that it ends."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.node import crowd
from broker.config.settings import Settings
from broker.control_plane import locks
from broker.control_plane.address_lock import AddressLock
from broker.control_plane.query import ask
from broker.models.spec import ModelSpec
from broker.server.retirement import Retirement
from broker.server.server import Server
from tests import nodes
from tests.brokers import folder, wait_until
from tests.forks import in_c_child
from tests.nodes import RIGHT, Node
from worker_client import BrokerError, BrokerUnavailable, DeadlineExceeded, connect
from worker_client.ipc.node_files import StartLock
from worker_client.node import shared

SLOW = "tests.process.slow_to_load:none"
X = np.full((2, 4), 3, np.float32)


@pytest.fixture
def node() -> Iterator[Node]:
    with nodes.node() as node:
        yield node


@pytest.fixture
def here(node: Node, monkeypatch: pytest.MonkeyPatch) -> Node:
    """This process is one of the node's."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", os.fspath(node.place))
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    return node


def test_processes_share_one_broker_which_ends_and_leaves_nothing(node: Node) -> None:
    callers = [node.caller() for _ in range(4)]
    answers = [caller.answer() for caller in callers]
    assert [answer.get("y") for answer in answers] == [RIGHT] * 4, answers
    assert len({answer["broker"] for answer in answers}) == 1
    for caller in callers:
        caller.end()
    node.wait_for_end()


def test_a_crowd_of_which_one_is_killed_has_one_broker(here: Node, tmp_path: Path, seed: int) -> None:
    """Of many processes that call at once, one of which is killed, all share one broker (T22 in small)."""
    wanted = crowd.WantedBroker(
        {"head": "benchmarks.models.functions:head"}, 0.5, os.fspath(tmp_path / "log")
    )
    rng = random.Random(seed)
    for _ in range(3):
        found = crowd.play(wanted, 8, rng, kill=True)
        assert found.errors == []
        assert found.right == 7
        assert len(found.brokers) == 1
        assert found.starts <= 2
        assert found.left == []
    wait_until(lambda: not here.brokers(), "the last broker's end")


def test_who_comes_as_the_broker_ends_is_served_by_the_next(here: Node, tmp_path: Path, seed: int) -> None:
    wanted = crowd.WantedBroker(
        {"head": "benchmarks.models.functions:head"}, 0.2, os.fspath(tmp_path / "log")
    )
    calls, errors = crowd.race(wanted, 3, 6.0, seed)
    assert errors == []
    assert calls
    wait_until(lambda: not here.brokers(), "the last broker's end")


def test_everybody_hears_why_the_broker_cannot_start_and_nobody_starts_it_again(node: Node) -> None:
    broken = {"broken": "tests.process.models:no_such_model"}
    callers = [node.caller(broken) for _ in range(4)]
    answers = [caller.answer() for caller in callers]
    assert {answer.get("error") for answer in answers} == {"BrokerUnavailable"}
    (message,) = {answer["message"] for answer in answers}
    assert "no_such_model" in message
    log = Path(message.partition("its log: ")[2].rstrip(")"))
    assert log.read_text().count("loading broken") == 1
    assert node.call(broken)["message"] == message
    assert log.read_text().count("loading broken") == 1


def test_wrong_settings_are_told_in_the_words_of_the_configuration(node: Node) -> None:
    answer = node.call(slotz=3)
    assert answer["error"] == "BrokerUnavailable"
    assert "did you mean 'slots'?" in answer["message"]


def test_the_next_caller_starts_a_broker_that_was_killed(here: Node) -> None:
    with shared(nodes.DOUBLE, idle_seconds=0.5) as client:
        double = client.model("double")
        assert double.predict(X).tolist() == RIGHT
        (before,) = here.brokers()
        os.kill(before, signal.SIGKILL)
        assert double.predict(X).tolist() == RIGHT
        (after,) = here.brokers()
        assert after != before
    here.wait_for_end()


def test_a_child_forked_before_the_brokers_death_starts_the_next(here: Node) -> None:
    with shared(nodes.DOUBLE, idle_seconds=0.5) as client:
        double = client.model("double")
        double.predict(X)
        (before,) = here.brokers()

        def body() -> None:
            os.kill(before, signal.SIGKILL)
            assert double.predict(X).tolist() == RIGHT

        in_c_child(body)
        assert double.predict(X).tolist() == RIGHT
    here.wait_for_end()


def test_a_starter_that_is_killed_takes_no_broker_along_and_blocks_nobody(node: Node) -> None:
    """It dies while the broker's process has the lock; before, it is the kernel that gives the lock back."""
    starter = node.caller()
    wait_until(node.brokers, "the broker's process")
    starter.kill()
    assert node.call()["y"] == RIGHT
    assert len(node.brokers()) <= 1
    node.wait_for_end()


def test_a_lock_is_given_back_by_its_holders_death(here: Node) -> None:
    client = shared(nodes.DOUBLE, idle_seconds=0.5)
    path = Path(client.address)
    here.runtime.mkdir(mode=0o700)

    pid = os.fork()
    if pid == 0:
        try:
            if StartLock.take(path) is not None:
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    with client:
        assert client.model("double").predict(X).tolist() == RIGHT
    here.wait_for_end()


def test_a_fork_while_the_lock_is_held_leaves_the_child_no_hold_on_it(here: Node) -> None:
    path = Path(shared(nodes.DOUBLE).address)
    here.runtime.mkdir(mode=0o700)
    lock = StartLock.take(path)
    assert lock is not None
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        theirs.recv(1)
        os._exit(0)
    theirs.close()
    lock.close()  # without a word to those that have inherited it
    again = wait_until(lambda: StartLock.take(path), "the lock")
    again.release()
    ours.close()
    os.waitpid(pid, 0)


def test_a_call_keeps_its_deadline_while_the_broker_starts(
    here: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONESESSION_TEST_GATE", os.fspath(here.place))
    with shared({"slow": SLOW}, idle_seconds=0.5, timeout=1.0) as client:
        with pytest.raises(DeadlineExceeded, match="being started at .*its log: "):
            client.model("slow").predict(X)
        with pytest.raises(DeadlineExceeded):
            client.model("slow").predict(X)
        assert len(here.brokers()) == 1


def test_a_broker_that_dies_while_it_loads_is_started_once_more_only(
    here: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONESESSION_TEST_GATE", os.fspath(here.place))
    killed: set[int] = set()
    with shared({"slow": SLOW}, idle_seconds=0.5, timeout=60) as client:
        errors: list[BaseException] = []

        def body() -> None:
            try:
                client.model("slow").predict(X)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        while thread.is_alive():
            for pid in here.brokers():
                if pid not in killed and (here.place / "loading").exists():
                    (here.place / "loading").unlink()
                    killed.add(pid)
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        thread.join()
        (error,) = errors
        assert isinstance(error, BrokerUnavailable)
        assert "ended 2 times before it was ready" in str(error)
        assert len(killed) == 2


def test_changed_files_are_another_address(here: Node, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "saved_model.pb").write_bytes(b"one")
    client = shared({"m": model})
    before = client.address
    assert shared({"m": os.fspath(model)}).address == before
    (model / "saved_model.pb").write_bytes(b"two")
    assert pickle.loads(pickle.dumps(client)).address != before
    with pytest.raises(BrokerUnavailable):  # it is no model
        client.model("m").predict(X)
    assert client.address != before


def test_job_and_settings_are_part_of_the_address_and_the_end_is_not(here: Node) -> None:
    models = nodes.DOUBLE
    same = shared(models, idle_seconds=1).address
    assert shared(models, idle_seconds=2).address == same
    assert len({same, shared(models, job="a").address, shared(models, slots=3).address}) == 3


def test_files_that_a_cleaner_removed_do_not_make_a_second_broker(node: Node) -> None:
    first = node.caller()
    served = first.answer()
    for name in node.files():
        (node.runtime / name).unlink()
    answer = node.call()
    assert (answer["y"], answer["broker"]) == (RIGHT, served["broker"])
    first.end()
    wait_until(lambda: not node.brokers(), "the broker's end")


@pytest.mark.parametrize(
    "before",
    [
        "import os; os.closerange(0, 1); os.close(2)\n",
        "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n",
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n",
        "import sys; sys.executable = '/bin/true'\n",
    ],
    ids=["closed descriptors", "SIGCHLD ignored", "signals blocked", "executable is no Python"],
)
def test_odd_hosts(node: Node, before: str) -> None:
    caller = node.caller(before=before)
    answer = caller.answer()
    assert answer.get("y") == RIGHT, answer
    caller.end() if "close" not in before else caller.kill()
    node.wait_for_end()


def test_a_full_disk_is_told_before_anything_is_started(node: Node) -> None:
    """A limit of file sizes stands for it: the kernel refuses to write, as it does there."""
    before = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    answer = node.call(before=before)
    assert answer["error"] == "BrokerError"
    assert "cannot be written" in answer["message"]
    assert node.brokers() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_not_trusted(node: Node) -> None:
    node.runtime.mkdir(mode=0o700)
    os.chown(node.runtime, 12345, -1)
    try:
        answer = node.call()
        assert Path(answer["address"]).parent == Path(f"/tmp/onesession-{os.geteuid()}")
        wait_until(lambda: not Path(answer["address"]).exists(), "the broker's end")
    finally:
        shutil.rmtree(node.runtime)


def test_a_broker_that_nobody_can_reach_here_is_told_and_not_started_again_and_again(here: Node) -> None:
    """As in a container that shares /dev/shm with that broker's, and not the folder of its socket."""
    client = shared(nodes.DOUBLE, idle_seconds=0.5, timeout=60)
    here.runtime.mkdir(mode=0o700)
    held = locks.take_names(Path(client.address))
    try:
        with pytest.raises(BrokerUnavailable, match="another container") as told:
            client.model("double").predict(X)
        log = Path(str(told.value).partition("its log: ")[2].rstrip(")"))
        assert log.read_text().count("a live broker holds") == 1
    finally:
        locks.of_names(Path(client.address)).unlink()
        os.close(held)


def test_a_broker_that_ends_takes_no_worker_any_more() -> None:
    """One whose connection was under way as the socket went. It meets the next broker, or none."""
    with folder() as place:
        server = Server(
            Settings(models=(ModelSpec("double", "tests.process.models:double"),), address=str(place / "b"))
        )
        server.start()
        try:
            server._presence.retired = True
            with pytest.raises(BrokerUnavailable), connect(server.address_lock.path, retries=0) as client:
                client.model("double").predict(X)
        finally:
            server.stop()


def test_a_worker_puts_the_end_off_however_short_it_stayed() -> None:
    with folder() as place:
        models = (ModelSpec("double", "tests.process.models:double"),)
        settings = Settings(models=models, address=os.fspath(place / "b"), idle_seconds=1000)
        server = Server(settings, on_idle=lambda: None)
        server.start()
        try:

            def seconds_left() -> float:
                return float(ask(settings.address, "status")["status"]["ends_in_seconds"])

            before = wait_until(
                lambda: (left := seconds_left()) < 999.8 and left, "some time without workers"
            )
            with connect(settings.address) as client:
                client.model("double").predict(X)
            wait_until(lambda: not server.control.sessions, "the worker's end")
            assert seconds_left() > before
        finally:
            server.stop()


def test_no_socket_can_have_so_long_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / ("x" * 100)
    place.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", os.fspath(place))
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    with pytest.raises(BrokerError, match="longer than 107 bytes"):
        shared(nodes.DOUBLE)


def test_the_end_is_put_off_for_who_has_connected_meanwhile() -> None:
    with folder() as place:
        path = place / "node-0123456789abcdef.sock"
        address_lock = AddressLock(path)
        retirement = Retirement(address_lock)
        early = socket.socket(socket.AF_UNIX)
        early.connect(os.fspath(path))
        assert not retirement.begin()
        assert not path.exists()
        assert StartLock.take(path) is None  # else whoever finds no socket now would start another broker
        before = address_lock.restore()
        assert before is not None
        assert path.exists()
        retirement.put_off()
        assert not StartLock.is_held(path)
        with before, before.accept()[0]:
            pass
        assert retirement.begin()
        early.close()
        address_lock.release()
        retirement.finish()
        assert os.listdir(place) == []
