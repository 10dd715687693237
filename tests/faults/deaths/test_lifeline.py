"""The end of a broker's process is reported before its sockets are closed, which happens only after its memory is
freed."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

import worker_client
from broker.server.lifeline import Lifeline
from tests.brokers import serving, wait_until
from tests.workers import Talk, worker
from worker_client import BrokerUnavailable

_PIDFD_GETFD = 438
_PATIENCE_MS = 20_000


def ends(fd: int, milliseconds: int = _PATIENCE_MS) -> bool:
    """The pipe behind `fd` has no write end any more, or has none within the time."""
    poll = select.poll()
    poll.register(fd, 0)
    return poll.poll(milliseconds) == [(fd, select.POLLHUP)]


@pytest.fixture
def lifeline() -> Iterator[Lifeline]:
    made = Lifeline()
    yield made
    made.close()


def test_closing_ends_it(lifeline: Lifeline) -> None:
    """In order, with its thread; twice does no harm."""
    fd = os.dup(lifeline.fd)
    try:
        assert not ends(fd, 0)
        lifeline.close()
        lifeline.close()
        assert ends(fd)
        assert "onesession-lifeline" not in [thread.name for thread in threading.enumerate()]
    finally:
        os.close(fd)


def test_no_other_thread_has_the_write_end(lifeline: Lifeline) -> None:
    """So neither has a child that is forked, and the thread holds nothing open that others close."""
    target = os.readlink(f"/proc/self/fd/{lifeline.fd}")
    (holder,) = [thread for thread in threading.enumerate() if thread.name == "onesession-lifeline"]
    theirs = f"/proc/self/task/{holder.native_id}/fd"
    wait_until(lambda: len(os.listdir(theirs)) == 2, "it to have let go of the read end")
    held = [os.readlink(f"{theirs}/{fd}") for fd in os.listdir(theirs)]
    ours = [os.readlink(f"/proc/thread-self/fd/{fd}") for fd in open_descriptors()]
    assert (ours.count(target), held.count(target)) == (1, 1)


def test_no_signal_is_told_to_its_thread(lifeline: Lifeline) -> None:
    """Who handles signals is woken by a descriptor that only the other threads have."""
    (holder,) = [thread for thread in threading.enumerate() if thread.name == "onesession-lifeline"]
    status = Path(f"/proc/self/task/{holder.native_id}/status").read_text()
    (blocked,) = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigBlk:")]
    assert all(
        blocked >> (number - 1) & 1 for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGIO)
    )


def open_descriptors() -> list[str]:
    found = os.listdir("/proc/thread-self/fd")
    return [fd for fd in found if os.path.lexists(f"/proc/thread-self/fd/{fd}")]


def hold_and_fork(talk: Talk) -> None:
    lifeline = Lifeline()
    child = os.fork()
    if not child:
        talk.hear()
        os._exit(0)
    talk.say((lifeline.fd, child))
    talk.hear()


def test_a_process_that_is_killed() -> None:
    """The lifeline of a killed process ends, even if a child lives on with all that a fork copies."""
    with worker(hold_and_fork, talk=True) as parent:
        number, child = parent.hear()
        fd = descriptor_of(parent.pid, number)
        try:
            os.kill(parent.pid, signal.SIGKILL)
            assert ends(fd)
            assert psutil.pid_exists(child)
        finally:
            os.kill(child, signal.SIGKILL)
            os.close(fd)


def descriptor_of(pid: int, number: int) -> int:
    """A descriptor of another process, as our own."""
    pidfd = os.pidfd_open(pid)
    try:
        fd = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, pidfd, number, 0)
    finally:
        os.close(pidfd)
    if fd < 0:
        pytest.skip(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
    return int(fd)


def test_a_call_is_told_before_the_sockets_end() -> None:
    """The broker is killed while its end of every socket stays open, here, as it does while its memory is freed."""
    with serving("gated") as broker, worker_client.connect(broker.address, retries=0) as client:
        call = client.model("gated").submit({"number": np.array([1]), "x": np.ones(1, np.float32)})
        broker.gate.wait_for(1)
        sockets = [
            descriptor_of(broker.pid, int(fd))
            for fd in os.listdir(f"/proc/{broker.pid}/fd")
            if os.readlink(f"/proc/{broker.pid}/fd/{fd}").startswith("socket:")
        ]
        try:
            broker.kill()
            assert isinstance(call.exception(_PATIENCE_MS / 1000), BrokerUnavailable)
        finally:
            for fd in sockets:
                os.close(fd)
