"""Limits of the machine: a full /dev/shm, no descriptors left. Clear errors, and everything works on afterwards."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import worker_client
from broker.config.settings import Settings
from tests.brokers import serving, wait_until
from tests.workers import in_child
from worker_client import BrokerError, BrokerUnavailable, Client, Overloaded

ROOT = Path(__file__).parents[3]
MIB = 1 << 20
ROW = np.ones((1, 4), np.float32)
CAN_MOUNT = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


def in_small_shm(size: str, function: str, module: str = __name__) -> None:
    """Run a function of a test module with a /dev/shm of that size, which no other process sees."""
    script = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$0" -c "$1"'
    code = f"from {module} import {function}; {function}()"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, sys.executable, code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def use_more_than_shm_holds() -> None:
    with serving("consume", "produce") as broker, worker_client.connect(broker.address) as client:
        assert int(client.model("consume").predict(np.ones(3 * MIB, np.uint8))["n"]) == 3 * MIB
        assert len(client.model("produce").predict(np.int64(3 * MIB))) == 3 * MIB


def fill_shm_with_workers() -> None:
    with serving("double") as broker, contextlib.ExitStack() as stack:
        served: list[Client] = []
        while len(served) < 100:
            client = stack.enter_context(worker_client.connect(broker.address))
            try:
                client.model("double").predict(ROW)
            except Overloaded as error:
                told = str(error)
                break
            served.append(client)
        assert 2 < len(served) < 100
        assert "/dev/shm" in told
        for each in served:
            np.testing.assert_array_equal(each.model("double").predict(ROW), ROW * 2)
        served[0].close()
        wait_until(lambda: len(broker.workers()) < len(served), "the end of the first worker at the broker")
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)


def fill_shm_for_a_while() -> None:
    with serving("consume", "double") as broker, worker_client.connect(broker.address) as client:
        filler = Path("/dev/shm/filler")
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)
        fill(filler)
        with worker_client.connect(broker.address) as late, pytest.raises(Overloaded, match="/dev/shm"):
            late.model("double").predict(ROW)
        assert int(client.model("consume").predict(np.ones(3 * MIB, np.uint8))["n"]) == 3 * MIB
        filler.unlink()
        with worker_client.connect(broker.address) as late:
            np.testing.assert_array_equal(late.model("double").predict(ROW), ROW * 2)


def fill(path: Path) -> None:
    """Take all that /dev/shm has left."""
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, os.statvfs("/dev/shm").f_bavail * 4096)


def run_out_of_semaphores() -> None:
    with serving("double") as broker, worker_client.connect(broker.address) as client:
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)
        wait_until(lambda: len(broker.names()) == 1, "the end of the names that the worker has opened")
        fillers = fill_with_names()
        refusals = []
        while fillers:  # so that it fails at the segment, at the first semaphore, at a later one
            with worker_client.connect(broker.address) as late:
                try:
                    late.model("double").predict(ROW)
                except Overloaded as error:
                    refusals.append(str(error))
                else:
                    break
            assert len(broker.names()) == 1
            fillers.pop().unlink()
        assert len(refusals) > 2
        assert all("/dev/shm" in text and "nlarge it" in text for text in refusals), refusals
        for filler in fillers:
            filler.unlink()
        futures = [client.model("double").submit(ROW) for _ in range(40)]
        for future in futures:
            np.testing.assert_array_equal(future.result(30), ROW * 2)


def fill_with_names() -> list[Path]:
    """Files, until /dev/shm takes no more."""
    fillers: list[Path] = []
    with contextlib.suppress(OSError):
        while True:
            path = Path("/dev/shm", f"filler{len(fillers)}")
            path.touch()
            fillers.append(path)
    return fillers


def grow_by_half_a_block() -> None:
    one = {"number": np.int64([1]), "x": np.float32([1])}
    with (
        serving("gated", slots=2, max_slots=6) as broker,
        worker_client.connect(broker.address) as client,
    ):
        model = client.model("gated")
        futures = [model.submit(one) for _ in range(2)]
        broker.gate.wait_for(1)
        used = broker.shared_memory_bytes()
        fillers = fill_with_names()
        fillers.pop().unlink()  # there is room for one semaphore, and two are wanted
        for _ in range(3):
            with pytest.raises(Overloaded, match="/dev/shm"):
                model.submit(one, timeout=2)
        assert (len(broker.names()), broker.shared_memory_bytes()) == (1, used)
        for filler in fillers:
            filler.unlink()
        futures += [model.submit(one) for _ in range(4)]  # as many as max_slots allows
        broker.gate.open()
        for future in futures:
            assert future.result(30)["y"] == 2


def start_in_a_full_shm() -> None:
    fill(Path("/dev/shm/filler"))
    with pytest.raises(BrokerError, match="/dev/shm has no room"), serving("double"):
        pass
    os.unlink("/dev/shm/filler")
    with serving("double") as broker, worker_client.connect(broker.address) as client:
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)


@pytest.mark.skipif(not CAN_MOUNT, reason="needs the right to mount")
def test_what_was_full_works_when_space_returns() -> None:
    """While another program fills /dev/shm, what needs more is refused; the same calls work when it is gone."""
    in_small_shm("16m", "fill_shm_for_a_while")


@pytest.mark.skipif(not CAN_MOUNT, reason="needs the right to mount")
def test_semaphores_that_run_out_are_told() -> None:
    """A worker for whom no more semaphore can be made is refused, leaving none behind; others go on."""
    in_small_shm("64m,nr_inodes=200", "run_out_of_semaphores")


@pytest.mark.skipif(not CAN_MOUNT, reason="needs the right to mount")
def test_slots_of_which_some_fit_are_taken_back() -> None:
    """All of a block or nothing: what did not fit counts neither as slots nor as memory, and leaves no name."""
    in_small_shm("64m,nr_inodes=200", "grow_by_half_a_block")


@pytest.mark.skipif(not CAN_MOUNT, reason="needs the right to mount")
def test_a_broker_does_not_start_in_a_full_dev_shm() -> None:
    """Its start fails in one line that names /dev/shm, and succeeds when there is room."""
    in_small_shm("1m", "start_in_a_full_shm")


def test_workers_past_the_budget_are_refused_and_taken_later() -> None:
    """A worker for whom the broker's budget has no room is refused with its name, and taken when another goes."""
    first = Settings(models=()).first_segment_bytes
    options = {"max_channel_bytes": 3 * first, "max_total_bytes": 2 * first}  # they are all this process's
    with serving("double", **options) as broker, contextlib.ExitStack() as stack:
        one, two, three = (stack.enter_context(worker_client.connect(broker.address)) for _ in range(3))
        for client in (one, two):
            np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)
        with pytest.raises(Overloaded, match="max_total_bytes"):
            three.model("double").predict(ROW)
        one.close()
        broker.wait_for_workers(os.getpid())
        np.testing.assert_array_equal(three.model("double").predict(ROW), ROW * 2)


def use_more_than_the_machine_has() -> None:
    meminfo = Path("/dev/shm/meminfo")
    meminfo.write_text("MemAvailable: 1000000 kB\n")
    subprocess.run(["mount", "--bind", meminfo, "/proc/meminfo"], check=True)
    with serving("consume") as broker, worker_client.connect(broker.address) as client:
        model = client.model("consume")
        assert int(model.predict(np.ones(5, np.uint8))["n"]) == 5
        meminfo.write_text("MemAvailable: 18000 kB\n")
        with pytest.raises(Overloaded, match=r"another segment of [\d,]+ bytes: 18,432,000 are left"):
            model.predict(np.ones(3 * MIB, np.uint8))
        assert int(model.predict(np.ones(6, np.uint8))["n"]) == 6
        meminfo.write_text("MemAvailable: 1000000 kB\n")
        assert int(model.predict(np.ones(3 * MIB, np.uint8))["n"]) == 3 * MIB


@pytest.mark.skipif(not CAN_MOUNT, reason="needs the right to mount")
def test_a_segment_that_the_machine_has_no_memory_for_is_refused() -> None:
    """The channel stays usable, and the same request succeeds once memory is free again."""
    in_small_shm("64m", "use_more_than_the_machine_has")


@pytest.mark.skipif(not CAN_MOUNT, reason="needs the right to mount")
def test_large_requests_need_no_large_dev_shm() -> None:
    """Segments are not files in /dev/shm, so a container's 64 MB, or even 2, are enough for larger tensors."""
    in_small_shm("2m", "use_more_than_shm_holds")


@pytest.mark.skipif(not CAN_MOUNT, reason="needs the right to mount")
def test_workers_that_do_not_fit_into_dev_shm_are_refused() -> None:
    """Workers past what /dev/shm holds get Overloaded; when one goes, the next is taken."""
    in_small_shm("1m", "fill_shm_with_workers")


@contextlib.contextmanager
def few_descriptors(count: int) -> Iterator[None]:
    """This process, and what it starts, may have so many descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_broker_without_descriptors_serves_whom_it_has() -> None:
    """Workers past the broker's descriptors are refused at once; those it has are served, and others later."""
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(serving("double"))
        resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (64, 64))
        clients = [stack.enter_context(worker_client.connect(broker.address)) for _ in range(60)]
        refused = []
        for client in clients:
            try:
                client.model("double").predict(ROW)
            except (BrokerUnavailable, Overloaded):
                refused.append(client)
        served = [client for client in clients if client not in refused]
        assert refused
        assert len(served) > 5
        for client in served:
            np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)
        for client in served:
            client.close()
        wait_until(lambda: not broker.workers(), "the end of the workers at the broker")
        np.testing.assert_array_equal(refused[-1].model("double").predict(ROW), ROW * 2)


def test_a_broker_takes_all_the_descriptors_that_it_may_have() -> None:
    """The usual 1,024 are a soft limit."""
    with few_descriptors(512), serving("double") as broker:
        soft, hard = resource.prlimit(broker.pid, resource.RLIMIT_NOFILE)
    assert soft == hard
    assert soft > 512


def test_a_worker_without_descriptors_is_told() -> None:
    """A worker that cannot open what its channel needs gets an error, and attaches once it can."""

    def child() -> list[str]:
        told = []
        client = worker_client.connect(broker.address)
        opened: list[int] = []
        with few_descriptors(len(os.listdir("/proc/self/fd")) + 30):
            with contextlib.suppress(OSError):
                while True:
                    opened.append(os.open(os.devnull, os.O_RDONLY))
            for spare in range(12):
                try:
                    client.model("double").predict(ROW)
                except (BrokerError, OSError) as error:
                    told.append(f"{type(error).__name__}: {error}")
                    os.close(opened.pop())
                else:
                    told.append(f"attached with {spare} spare")
                    break
        for fd in opened:
            os.close(fd)
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)
        client.close()
        return told

    with serving("double") as broker:
        *errors, last = in_child(child)
        assert last.startswith("attached"), errors
        assert errors
        assert {error.partition(":")[0] for error in errors} <= {"BrokerUnavailable", "Overloaded"}, errors
