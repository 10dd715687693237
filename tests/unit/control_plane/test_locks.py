"""The lock files of an address: their holder, their lock record, and which file counts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.control_plane import locks
from broker.control_plane.locks import AlreadyRunning, LockRecord


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "b.sock"


@pytest.fixture
def held(path: Path) -> Iterator[int]:
    """The lock beside the socket."""
    fd = locks.take(locks.of_socket(path), path)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("note", "whose"),
    [
        ("", "just being started"),
        ("0 loading\n", "just being started"),
        ("123\n", "pid 123"),
        ("?", "just being"),
    ],
)
def test_the_error_names_the_holder(path: Path, held: int, note: str, whose: str) -> None:
    """As far as the note in the file says it already."""
    os.pwrite(held, note.encode(), 0)
    with pytest.raises(AlreadyRunning, match=rf"a broker \({whose}.*\) already serves .*b\.sock; stop it"):
        locks.take(locks.of_socket(path), path)


def test_the_error_says_that_the_holder_is_this_program(path: Path, held: int) -> None:
    """As where a notebook's cell runs again, whose last Broker nobody holds any more."""
    os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
    with pytest.raises(AlreadyRunning, match=r"a Broker of this program: call its stop\(\).*name=\.\.\."):
        locks.take(locks.of_socket(path), path)


def test_the_error_says_that_the_socket_was_removed(path: Path) -> None:
    """Its holder still has the other lock, and will make the socket again."""
    names = path.with_name("names.lock")
    fd = locks.take(names, path)
    with pytest.raises(AlreadyRunning, match=r"b\.sock, though its socket has been removed; stop it"):
        locks.take(names, path)
    os.close(fd)


def test_a_note_replaces_the_previous_one(path: Path, held: int) -> None:
    """Completely, even if it is shorter."""
    for pid, loading in ((123456, True), (7, False), (None, True)):
        locks.write_note((held, held), pid, loading)
        assert locks.note_at(path) == LockRecord(pid, loading)


def test_only_the_file_at_the_path_counts(path: Path, held: int) -> None:
    """A removed file is no longer a lock, whether there is another in its place or not."""
    lock = locks.of_socket(path)
    assert locks.is_current(held, lock)
    assert locks.holds(held, lock)
    lock.unlink()
    assert not locks.is_current(held, lock)
    assert not locks.holds(held, lock)
    other = locks.take(lock, path)
    assert not locks.is_current(held, lock)
    assert locks.is_current(other, lock)
    os.close(other)


def test_the_holder_is_a_process_that_lives_and_holds(path: Path, held: int) -> None:
    """A note alone proves nothing: its writer may be gone, and its pid may belong to another process."""
    assert locks.holder(path) is None
    locks.write_note((held,), os.getpid(), False)
    assert locks.holder(path) == os.getpid()
    locks.write_note((held,), 2**22 + 1, False)
    assert locks.holder(path) is None
    path.with_name("other.sock.lock").write_text(f"{os.getpid()}\n")
    assert locks.note_at(path.with_name("other.sock")) == LockRecord(os.getpid(), False)
    assert locks.holder(path.with_name("other.sock")) is None
