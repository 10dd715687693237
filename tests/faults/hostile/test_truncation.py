"""A worker that changes the size of the memory it shares, which would give the broker a SIGBUS."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker, serving, wait_until
from tests.workers import Talk, worker
from worker_client import BrokerError
from worker_client.ipc.segment import Segment
from worker_client.system.descriptor import Descriptor

ROW = np.ones((1, 4), np.float32)
LARGE = np.full(300_000, 7, np.uint8)
KEEP_SIZE_AND_PUNCH_HOLE = 1 | 2
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]

Deed = Callable[[int, int], None]
"""Done to a descriptor of a segment of so many bytes."""


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    with serving("double", "consume", "produce", slots=2, max_slots=4) as running:
        yield running


def cut_off(fd: int, nbytes: int) -> None:
    os.ftruncate(fd, 0)


def cut_in_half(fd: int, nbytes: int) -> None:
    os.ftruncate(fd, nbytes // 2 & -4096)


def enlarge(fd: int, nbytes: int) -> None:
    os.ftruncate(fd, 1 << 40)
    os.posix_fallocate(fd, 0, 1 << 30)


def seal_for_writing(fd: int, nbytes: int) -> None:
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def punch_a_hole(fd: int, nbytes: int) -> None:
    """Gives pages back, which come again as zeros."""
    if _libc.fallocate(fd, KEEP_SIZE_AND_PUNCH_HOLE, 0, nbytes):
        raise OSError(ctypes.get_errno(), "fallocate failed")


def keep_descriptors() -> list[tuple[int, int]]:
    """From now on this process keeps the descriptor of every segment that it is sent, and its size."""
    kept: list[tuple[int, int]] = []
    attach = Segment.attach

    def attach_and_keep(descriptor: Descriptor, nbytes: int) -> Segment:
        kept.append((os.dup(descriptor.fd), nbytes))
        return attach(descriptor, nbytes)

    Segment.attach = attach_and_keep  # type: ignore[method-assign, assignment]
    return kept


def meddle(talk: Talk, address: str, deed: Deed) -> None:
    """Do it to the channel's segment and to a grown input and output region; say to how many it could be done. Then
    have the broker look at all of it."""
    kept = keep_descriptors()
    done = 0
    client = worker_client.connect(address, timeout=2)
    client.model("double").predict(ROW, timeout=60)
    client.model("consume").predict(LARGE, timeout=60)
    client.model("produce").predict(np.int64(len(LARGE)), timeout=60)
    assert len(kept) >= 3
    channel = client._connection.channel()
    for fd, nbytes in kept:
        try:
            deed(fd, nbytes)
        except OSError:
            continue
        done += 1
    talk.say(done)
    channel._ring._doorbell.release()
    for model, inputs in (("double", ROW), ("consume", LARGE), ("produce", np.int64(len(LARGE)))):
        with contextlib.suppress(BrokerError):
            client.model(model).predict(inputs)


@pytest.mark.parametrize(
    "deed", [cut_off, cut_in_half, enlarge, seal_for_writing], ids=lambda deed: deed.__name__
)
def test_the_size_of_shared_memory_is_the_brokers(broker: TestBroker, deed: Deed) -> None:
    """A worker can change neither the size nor the seals of any segment that it was given; others go on."""
    with worker_client.connect(broker.address) as client:
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)
        pid = broker.pid
        with worker(meddle, broker.address, deed, talk=True) as hostile:
            done = hostile.hear()
            hostile.wait()
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)
        assert broker.status()["pid"] == pid
        assert done == 0


def test_pages_given_back_are_the_workers_own_loss(broker: TestBroker) -> None:
    """A worker that punches holes into its memory finds zeros there, and the broker does, too: both live on."""
    with worker_client.connect(broker.address) as client:
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)
        pid = broker.pid
        with worker(meddle, broker.address, punch_a_hole, talk=True) as hostile:
            assert hostile.hear() >= 3
            assert hostile.wait() == 0
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)
        assert broker.status()["pid"] == pid
    wait_until(lambda: not broker.workers(), "the workers' channels to go")
