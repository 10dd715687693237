"""Budgets of shared memory, in channels and in total, and the sweep after a killed broker."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.sharing import memory as memory_module
from broker.sharing.memory import Account, Memory, sweep
from worker_client.ipc import semaphore
from worker_client.ipc.segment import Segment
from worker_client.system.descriptor import Descriptor
from worker_client.wire.errors import BrokerError, Overloaded

PAGE = 4096
PREFIX = f"/onesession.unit-test-{os.getpid()}."
SHM = Path("/dev/shm")


@pytest.fixture
def memory() -> Memory:
    """Room for four pages in a channel, and for six in all."""
    return Memory(PREFIX, max_total_bytes=6 * PAGE, max_channel_bytes=4 * PAGE)


@pytest.fixture
def shm() -> Iterator[Path]:
    """/dev/shm, and afterwards without anything of the test's prefix."""
    yield SHM
    for path in SHM.glob(f"*{PREFIX[1:]}*"):
        path.unlink()


def take(account: Account, nbytes: int) -> None:
    account.new_segment(nbytes).close()


def test_what_is_taken_is_counted_twice(memory: Memory):
    """A segment counts for its channel and for the broker, and closing the account gives both back."""
    one, other = memory.account(), memory.account()
    take(one, 2 * PAGE)
    take(other, PAGE)
    assert (one.used_bytes, other.used_bytes, memory.used_bytes) == (2 * PAGE, PAGE, 3 * PAGE)
    one.close()
    assert (one.used_bytes, other.used_bytes, memory.used_bytes) == (0, PAGE, PAGE)


def test_the_channels_of_a_process_share_one_budget(memory: Memory):
    """All connections of a process together get no more than one may; an ended one does not count."""
    one, other = memory.account("process"), memory.account("process")
    take(one, 3 * PAGE)
    take(other, PAGE)
    with pytest.raises(Overloaded, match="max_channel_bytes"):
        take(other, PAGE)
    take(memory.account("another"), PAGE)
    one.leave_process()
    assert memory.used_bytes == 5 * PAGE
    take(other, PAGE)
    for account in (one, other):
        account.close()
    assert memory.used_bytes == PAGE


def test_a_budget_can_be_used_up_to_its_last_byte(memory: Memory):
    """Exactly `max_channel_bytes` and exactly `max_total_bytes` are granted."""
    one, other = memory.account(), memory.account()
    take(one, 4 * PAGE)
    take(other, 2 * PAGE)
    assert memory.used_bytes == memory.max_total_bytes


def test_a_channel_past_its_budget(memory: Memory):
    """Overloaded says how much is used, how much was wanted, and names max_channel_bytes and its option."""
    account = memory.account()
    take(account, 3 * PAGE)
    with pytest.raises(Overloaded) as caught:
        take(account, PAGE + 1)
    assert str(caught.value) == (
        "this worker's shared memory is used up: 12,288 of 16,384 bytes, 4,097 more needed; "
        "send smaller requests or raise max_channel_bytes (onesession serve --max-channel-bytes)"
    )
    assert account.used_bytes == memory.used_bytes == 3 * PAGE


def test_a_broker_past_its_budget(memory: Memory):
    """Where the channel has room but the broker has none, Overloaded names max_total_bytes."""
    one, other = memory.account(), memory.account()
    take(one, 4 * PAGE)
    with pytest.raises(
        Overloaded, match=r"the broker's .* raise max_total_bytes \(onesession serve --max-total-bytes\)"
    ):
        take(other, 3 * PAGE)
    assert other.used_bytes == 0
    assert memory.used_bytes == 4 * PAGE


def test_what_is_given_back_can_be_taken_again(memory: Memory):
    """A budget that a channel used up is whole again for the next when the channel is closed."""
    for _ in range(3):
        account = memory.account()
        take(account, 4 * PAGE)
        with pytest.raises(Overloaded):
            take(account, 1)
        account.close()
    assert memory.used_bytes == 0


def test_a_closed_account(memory: Memory):
    """A closed account gives nothing any more, and closing it again or giving back late changes no count."""
    account, other = memory.account(), memory.account()
    take(account, PAGE)
    take(other, PAGE)
    account.close()
    account.close()
    memory.give(account, PAGE)
    with pytest.raises(BrokerError, match="connection to the broker was closed"):
        account.new_segment(PAGE)
    assert (account.used_bytes, memory.used_bytes) == (0, PAGE)


def test_a_region_in_place_of_another(memory: Memory):
    """What a region replaces is counted off, so a budget need not hold both."""
    account = memory.account()
    take(account, 3 * PAGE)
    region = account.new_region(4 * PAGE, replaced=3 * PAGE)
    assert account.used_bytes == memory.used_bytes == 4 * PAGE
    region.close()


def test_a_replacement_that_is_refused(memory: Memory):
    """Where the larger region is refused, the one it was to replace is still counted."""
    account = memory.account()
    take(account, 3 * PAGE)
    with pytest.raises(Overloaded):
        account.new_region(5 * PAGE, replaced=3 * PAGE)
    assert account.used_bytes == memory.used_bytes == 3 * PAGE


def test_a_segment_that_cannot_be_made_costs_nothing(memory: Memory, monkeypatch: pytest.MonkeyPatch):
    """If the system refuses the memory, the error names the setting and nothing stays counted or open."""

    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    account = memory.account()
    with pytest.raises(Overloaded, match=r"no memory for another segment of 8,192 bytes .*max_total_bytes"):
        account.new_segment(2 * PAGE)
    assert account.used_bytes == memory.used_bytes == 0


def test_no_segment_takes_the_last_free_memory(memory: Memory, monkeypatch: pytest.MonkeyPatch):
    """16 MiB stay free. A segment that needs them is refused and not counted; the error says how much is left."""
    account = memory.account()
    monkeypatch.setattr(memory_module, "left_bytes", lambda: (16 << 20) + PAGE)
    take(account, PAGE)
    with pytest.raises(
        Overloaded,
        match=r"no memory for another segment of 4,097 bytes: 16,781,312 are left .* max_total_bytes",
    ):
        account.new_segment(PAGE + 1)
    assert account.used_bytes == memory.used_bytes == PAGE
    monkeypatch.setattr(memory_module, "left_bytes", lambda: None)
    take(account, 2 * PAGE)


def test_a_region_is_of_its_size_class(memory: Memory):
    """A region has room to spare, up to the next power of two, and is counted as it is."""
    account = memory.account()
    region = account.new_region(PAGE + 1)
    assert region.nbytes == account.used_bytes == 2 * PAGE
    region.close()


def test_a_region_without_room_to_spare(memory: Memory):
    """Where the budget has no room for the size class, it is used for exactly what was asked."""
    account = memory.account()
    take(account, PAGE)
    region = account.new_region(3 * PAGE)
    assert region.nbytes == 3 * PAGE
    region.close()
    with pytest.raises(Overloaded, match="max_channel_bytes"):
        account.new_region(1)


def test_threads_do_not_overdraw(memory: Memory):
    """However many threads take and give at once, no budget is exceeded and nothing is lost from the count."""
    accounts = [memory.account() for _ in range(4)]
    start = threading.Barrier(len(accounts))
    most: list[int] = []

    def work(account: Account) -> None:
        start.wait()
        for _ in range(300):
            try:
                memory.take(account, 3 * PAGE)
            except Overloaded:
                continue
            most.append(memory.used_bytes)
            memory.give(account, 3 * PAGE)

    threads = [threading.Thread(target=work, args=(account,)) for account in accounts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= memory.max_total_bytes
    assert memory.used_bytes == sum(account.used_bytes for account in accounts) == 0


def test_names_are_new_each_time(memory: Memory):
    """Every name is unused, begins with the prefix, and tells which process made it."""
    names = [memory.new_name() for _ in range(100)]
    assert len(set(names)) == len(names)
    assert all(name.startswith(f"{PREFIX}{os.getpid()}.") for name in names)


def test_a_segment_has_no_name(memory: Memory, shm: Path):
    """A segment never has a name in /dev/shm: a kill at any time leaves none behind."""
    segment = memory.account().new_segment(PAGE)
    assert not list(shm.glob(f"*{PREFIX[1:]}*"))
    segment.close()


def test_a_segment_is_shared_by_its_descriptor(memory: Memory):
    """A side that attaches by descriptor reads what the other wrote, in memory that was zero before."""
    ours = memory.account().new_segment(PAGE)
    theirs = Segment.attach(Descriptor(os.dup(ours.fd)), PAGE)
    assert not any(theirs.bytes)
    ours.bytes[100] = 7
    assert theirs.bytes[100] == 7
    ours.close()
    theirs.close()


# -- the sweep -----------------------------------------------------------------------------------------------------


def left_behind(memory: Memory) -> set[str]:
    """A semaphore and a segment as a killed broker would leave them: their names in /dev/shm."""
    made = memory.new_semaphore()
    made.close()
    segment = memory.new_name()
    (SHM / segment[1:]).write_bytes(b"")
    return {f"sem.{made.name[1:]}", segment[1:]}


def test_sweep_removes_what_a_killed_broker_left(memory: Memory, shm: Path):
    """Segments and semaphores of the prefix are removed, and their names returned."""
    names = left_behind(memory)
    assert names <= set(os.listdir(shm))
    assert set(sweep(PREFIX)) == names
    assert not names & set(os.listdir(shm))
    assert sweep(PREFIX) == []


def test_sweep_leaves_what_is_not_its_own(memory: Memory, shm: Path):
    """Names of another broker, of any other program, and names that only contain the prefix, stay."""
    stem = PREFIX[1:]
    others = {f"other.{stem}1", f"sem.other.{stem}1", f"sem.sem.{stem}1", stem[:-1] + "0.1"}
    for name in others:
        (shm / name).write_bytes(b"")
    try:
        left_behind(memory)
        before = set(os.listdir(shm))
        swept = set(sweep(PREFIX))
        assert not others & swept
        assert others <= set(os.listdir(shm))
        assert all(name.startswith((stem, f"sem.{stem}")) for name in swept)
        assert swept <= before
    finally:
        for name in others:
            (shm / name).unlink(missing_ok=True)


def test_a_name_that_goes_away_meanwhile(
    memory: Memory, shm: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """A name that somebody else removes during the sweep does not stop it."""
    names = left_behind(memory)

    class Listing:
        @staticmethod
        def iterdir() -> list[Path]:
            return [shm / f"{PREFIX[1:]}gone", *(shm / name for name in names)]

    monkeypatch.setattr(memory_module, "_SHM", Listing)
    sweep(PREFIX)
    assert not names & set(os.listdir(shm))


def test_a_semaphore_outlives_its_name(memory: Memory, shm: Path):
    """A semaphore whose name was swept or unlinked still works for those who have it open; unlinking twice is fine."""
    made = memory.new_semaphore()
    opened = semaphore.attach(made.name)
    sweep(PREFIX)
    semaphore.unlink(made)
    made.release()
    assert semaphore.try_acquire(opened)
    assert not semaphore.try_acquire(made)
    made.close()
    opened.close()
