"""Shared pages: mapped without a descriptor, and as long as anybody has a view of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from worker_client.ipc.segment import Segment
from worker_client.system.descriptor import Descriptor
from worker_client.system.pages import map_shared

PAGE = 4096


def mapped(name: str) -> int:
    return Path("/proc/self/maps").read_text().count(f"memfd:{name} ")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_mapping_keeps_no_descriptor() -> None:
    """However many segments there are, on either side."""
    before = descriptors()
    ours = [Segment.create("/pages-none", PAGE) for _ in range(10)]
    theirs = [Segment.attach(Descriptor(segment.detach_fd()), PAGE) for segment in ours]
    assert descriptors() == before
    ours[3].bytes[7] = 9
    assert theirs[3].bytes[7] == 9


def test_it_lasts_as_long_as_its_last_view() -> None:
    """A numpy array on a part of it, too, which knows nothing of the segment; and no longer."""
    segment = Segment.create("/pages-last", PAGE)
    array = np.ndarray((4,), np.float32, buffer=segment.bytes[64:80])
    words = segment.bytes.cast("Q")
    segment.close_fd()
    del segment
    assert mapped("pages-last") == 1
    array[:] = 3
    assert words[8] != 0
    del words
    assert mapped("pages-last") == 1
    assert array.tolist() == [3, 3, 3, 3]
    del array
    assert mapped("pages-last") == 0


@pytest.mark.parametrize("nbytes", [0, -1, PAGE + 1])
def test_no_more_than_there_is(nbytes: int) -> None:
    """Beyond the end of the file there would be SIGBUS."""
    segment = Segment.create("/pages-more", PAGE)
    with pytest.raises(ValueError, match="cannot be mapped"):
        map_shared(segment.fd, nbytes)
    segment.close()


def test_no_file_to_write(tmp_path: Path) -> None:
    """The error is the system's."""
    path = tmp_path / "read-only"
    path.write_bytes(bytes(PAGE))
    fd = os.open(path, os.O_RDONLY)
    with pytest.raises(PermissionError):
        map_shared(fd, PAGE)
    os.close(fd)
