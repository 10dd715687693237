"""A segment's descriptor has one owner at a time, and is closed once."""

from __future__ import annotations

import os

from worker_client.ipc.segment import Segment
from worker_client.system.descriptor import Descriptor


def test_a_descriptor_is_closed_once() -> None:
    """Closing the segment again must not close a file that has the same number by then."""
    segment = Segment.create("/onesession.unit", 4096)
    number = segment.fd
    segment.close_fd()
    assert segment.fd == -1
    other = os.open(os.devnull, os.O_RDONLY)
    assert other == number
    segment.close()
    os.fstat(other)
    os.close(other)


def test_a_detached_descriptor_belongs_to_its_new_owner() -> None:
    """The segment does not close it, and it maps the same memory."""
    segment = Segment.create("/onesession.unit", 4096)
    fd = segment.detach_fd()
    assert segment.fd == -1
    segment.close_fd()
    attached = Segment.attach(Descriptor(fd), 4096)
    assert attached.fd == -1
    attached.bytes[7] = 9
    assert segment.bytes[7] == 9
    attached.close()
    segment.close()
