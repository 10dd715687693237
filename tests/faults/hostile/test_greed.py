"""Workers that take more than their share of the broker's connections. Other workers are served meanwhile."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import worker_client
from broker.control_plane import server as control
from broker.control_plane.peers import MOST_OF_A_PROCESS, MOST_OF_A_USER, Peers
from broker.control_plane.server import ControlServer
from tests.brokers import folder, serving, wait_until
from tests.faults.hostile.test_hostile_worker import message
from tests.workers import worker
from worker_client import Overloaded
from worker_client.wire.layout import PROTOCOL

ROW = np.ones((1, 4), np.float32)


def connected(stack: contextlib.ExitStack, address: str | Path) -> socket.socket:
    sock = stack.enter_context(socket.socket(socket.AF_UNIX))
    sock.settimeout(30)
    sock.connect(os.fspath(address))
    return sock


def answers(client: worker_client.Client) -> bool:
    try:
        return bool((client.model("double").predict(ROW) == 2 * ROW).all())
    except Overloaded:
        return False


def test_a_process_has_so_many_connections() -> None:
    """A further connection is refused with the reason. Existing ones keep working, and other processes can connect."""
    with serving("double") as broker, contextlib.ExitStack() as stack:
        client = stack.enter_context(worker_client.connect(broker.address, timeout=30))
        late = stack.enter_context(worker_client.connect(broker.address, timeout=30))
        assert answers(client)
        idle = [connected(stack, broker.address) for _ in range(MOST_OF_A_PROCESS - 1)]
        with pytest.raises(Overloaded, match=f"has {MOST_OF_A_PROCESS} connections to this broker"):
            late.model("double").predict(ROW)
        assert answers(client)

        def other() -> bool:
            with worker_client.connect(broker.address, timeout=30) as theirs:
                return answers(theirs)

        with worker(other) as child:
            assert child.result()
        idle.pop().close()
        wait_until(lambda: answers(late), "room for a connection")


def test_connections_are_counted_for_each_process_and_other_user() -> None:
    """Root and the broker's own user have no bound but their processes'; another pid namespace's have no number."""
    peers = Peers()
    assert {peers.add(7, 0) for _ in range(MOST_OF_A_PROCESS)} == {""}
    assert peers.add(7, 0).startswith(f"process 7 has {MOST_OF_A_PROCESS} connections")
    assert peers.add(8, 0) == ""
    peers.remove(7, 0)
    peers.remove(7, 0)
    assert peers.add(7, 0) == ""
    stranger = os.geteuid() + 54321
    assert {peers.add(0, stranger) for _ in range(MOST_OF_A_USER)} == {""}
    assert f"the processes of uid {stranger} have" in peers.add(9, stranger)
    assert {peers.add(0, os.geteuid()) for _ in range(2 * MOST_OF_A_USER)} == {""}


def test_the_log_is_not_theirs() -> None:
    """The log reports only one refusal per user in a while."""
    peers = Peers()
    assert [peers.may_be_logged(uid) for uid in (1, 1, 2, 1, 2)] == [True, False, True, False, False]


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of a control server that does not wait long for a hello."""
    monkeypatch.setattr(control, "SECONDS_TO_HELLO", 0.5)
    with folder() as place, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(place / "b.sock"))
        listener.listen()
        listener.setblocking(False)
        server = ControlServer(listener, {}, lambda session: None)
        thread = threading.Thread(target=server.run)
        thread.start()
        yield place / "b.sock"
        server.stop()
        thread.join()


def test_who_says_nothing_is_hung_up_on(address: Path) -> None:
    """A connection has to say hello; after that it may be silent."""
    with contextlib.ExitStack() as stack:
        polite, silent = connected(stack, address), connected(stack, address)
        polite.sendall(message(op="hello", id=1, protocol=PROTOCOL))
        assert polite.recv(1000)
        assert silent.recv(1000) == b""
        polite.sendall(message(op="hello", id=2, protocol=PROTOCOL))
        assert polite.recv(1000)
