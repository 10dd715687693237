"""What `onesession doctor` finds on a machine on which that is really so, and that it changes nothing unasked."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import posix_ipc
import pytest

import worker_client
from broker.doctor.all_checks import CHECKS, examine
from broker.doctor.checks import leftovers
from broker.doctor.checks.address import check_broker, check_directory
from broker.doctor.finding import Finding, Severity
from tests import brokers
from tests.brokers import SHM, TestBroker, serving, wait_until
from tests.process.broker.test_limits import CAN_MOUNT, in_small_shm
from tests.workers import Talk, worker
from worker_client.wire import control
from worker_client.wire.address import name_prefix

ROOT = Path(__file__).parents[3]
ROW = np.ones((1, 4), np.float32)


@pytest.fixture
def place() -> Iterator[Path]:
    with brokers.folder() as path:
        yield path


@pytest.fixture
def broker(place: Path) -> Iterator[TestBroker]:
    with serving("double", path=place / "b.sock") as broker:
        yield broker


def doctor(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broker", "doctor", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def finding(check: str, path: Path | str) -> Finding:
    """What this check says about the broker at this socket."""
    answer, patient = check_broker(Path(path))
    return answer if check == "broker" else CHECKS[check](patient)


def level(check: str, path: Path | str) -> str:
    return finding(check, path).level.value


# -- the command ---------------------------------------------------------------------------------------------------


def test_a_healthy_broker_has_no_problem(broker: TestBroker) -> None:
    """Status 0, one line for every check, and the broker is named with its models."""
    done = doctor("--name", broker.address)
    assert done.returncode == 0, done.stdout
    assert f"pid {broker.pid}" in done.stdout
    for check in CHECKS:
        assert check in done.stdout
    assert "0 problems" in done.stdout


def test_json_has_the_same(broker: TestBroker) -> None:
    """`--json` gives each finding's check, level, text and remedy; whatever is not ok has a remedy."""
    done = doctor("--json", "--name", broker.address)
    message = json.loads(done.stdout)
    assert message["address"] == broker.address
    assert [each["check"] for each in message["findings"]] == ["socket directory", "broker", *CHECKS]
    for each in message["findings"]:
        assert set(each) == {"check", "level", "found", "remedy"}
        assert each["found"]
        assert bool(each["remedy"]) == (each["level"] != "ok"), each


def test_a_problem_is_status_1(place: Path) -> None:
    """A problem, here a directory that does not exist, ends with status 1 and its remedy."""
    done = doctor("--name", str(place / "missing" / "b.sock"))
    assert done.returncode == 1
    assert "mkdir -m 700" in done.stdout
    assert "Traceback" not in done.stderr


def test_every_finding_but_ok_has_a_remedy(place: Path) -> None:
    """Without a broker, too, nothing is found fault with that is not told how to mend."""
    assert [
        each for each in examine(place / "b.sock") if (each.level is Severity.OK) == bool(each.remedy)
    ] == []


def test_a_check_that_cannot_read_says_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One check that fails does not take the others with it."""

    def fail(_patient: object) -> Finding:
        raise PermissionError(13, "Permission denied", "/proc/1/maps")

    monkeypatch.setitem(CHECKS, "clock", fail)
    found = {each.check: each for each in examine(place / "b.sock")}
    assert found["clock"].level is Severity.WARNING
    assert "/proc/1/maps" in found["clock"].found
    assert len(found) == len(CHECKS) + 2


# -- the address ---------------------------------------------------------------------------------------------------


def test_no_broker_is_a_warning(place: Path) -> None:
    """Before the broker is started the machine can be examined without a failure."""
    found = finding("broker", place / "b.sock")
    assert found.level is Severity.WARNING
    assert "onesession serve" in found.remedy


def test_a_directory_for_all_is_told(place: Path) -> None:
    """A directory in which everybody may replace the socket is a problem, one with the sticky bit a warning."""
    assert check_directory(place / "b.sock").level is Severity.OK
    place.chmod(0o777)
    assert check_directory(place / "b.sock").level is Severity.PROBLEM
    place.chmod(0o1777)
    assert check_directory(place / "b.sock").level is Severity.WARNING


def test_a_dead_brokers_socket_is_told(place: Path) -> None:
    """The socket that a SIGKILL leaves is a warning: the next start removes it."""
    with serving("double", path=place / "b.sock") as broker:
        broker.kill()
        found = finding("broker", place / "b.sock")
    assert found.level is Severity.WARNING
    assert "has died" in found.found


def test_a_file_for_a_socket_is_told(place: Path) -> None:
    """A file in the socket's place is a problem."""
    (place / "b.sock").touch()
    assert level("broker", place / "b.sock") == "problem"


def test_a_broker_that_does_not_answer_is_told(broker: TestBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live broker that is stuck is a problem that names its pid."""
    monkeypatch.setattr("broker.doctor.checks.address.ANSWER_SECONDS", 0.5)
    broker.signal(signal.SIGSTOP)
    try:
        found = finding("broker", broker.address)
    finally:
        broker.signal(signal.SIGCONT)
    assert found.level is Severity.PROBLEM
    assert f"pid {broker.pid} holds" in found.found


def test_a_broker_that_loads_is_told(place: Path) -> None:
    """While its models load a broker has the address but does not answer, and that is all right."""
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", "serve", "--model", "m=tests.process.slow_to_load:model"],
        cwd=ROOT,
        env={**os.environ, "BROKER_ADDRESS": str(place / "b.sock"), "ONESESSION_TEST_GATE": str(place)},
        stderr=subprocess.PIPE,
    )
    try:
        wait_until((place / "loading").exists, "the model to be loaded")
        found = finding("broker", place / "b.sock")
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert found.level is Severity.WARNING
    assert f"pid {process.pid} at {place}/b.sock is still loading" in found.found


def test_another_version_is_told(place: Path) -> None:
    """A broker that speaks another protocol is a problem whose remedy is one version for all."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "b.sock"))
        listener.listen()

        def answer(_talk: Talk) -> None:
            peer, _ = listener.accept()
            decoder = control.Decoder()
            while (item := decoder.next_message()) is None:
                decoder.receive(peer)
            error = worker_client.BrokerError("the worker speaks protocol 2, this broker 99")
            control.send(peer, {**control.error_fields(error), "re": item[0]["id"]})

        with worker(answer, talk=True) as other:
            found = finding("broker", place / "b.sock")
            other.result()
    assert found.level is Severity.PROBLEM
    assert "this broker 99" in found.found
    assert "same version" in found.remedy


# -- shared memory -------------------------------------------------------------------------------------------------


def tell_room() -> None:
    """With a /dev/shm as containers have it: nothing to say; full to the last page: a problem."""
    with brokers.folder() as place:
        found = finding("/dev/shm", place / "b.sock")
        assert found.level is Severity.OK, found
        with contextlib.suppress(OSError), open(SHM / "filler", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, os.statvfs(SHM).f_bavail * 4096)
        found = finding("/dev/shm", place / "b.sock")
        assert (found.level, "of 0 more workers" in found.found) == (Severity.PROBLEM, True), found


def tell_inodes() -> None:
    with brokers.folder() as place:
        found = finding("semaphores", place / "b.sock")
        assert (found.level, "nr_inodes" in found.remedy) == (Severity.WARNING, True), found


@pytest.mark.skipif(not CAN_MOUNT, reason="needs the right to mount")
@pytest.mark.parametrize(("options", "function"), [("64m", "tell_room"), ("4g,nr_inodes=100", "tell_inodes")])
def test_a_small_dev_shm_is_told(options: str, function: str) -> None:
    """A container's 64 MB are enough, a full one is a problem; so few names that semaphores run out, a warning."""
    in_small_shm(options, function, module=__name__)


def test_a_doorbell_that_was_removed_is_told(broker: TestBroker) -> None:
    """If a program has removed the broker's name, as RemoveIPC does, the doctor sees why nobody can attach."""
    assert level("doorbell", broker.address) == "ok"
    (name,) = broker.names()
    (SHM / name).unlink()
    found = finding("doorbell", broker.address)
    assert found.level is Severity.PROBLEM
    assert "RemoveIPC" in found.remedy


# -- left-over names -----------------------------------------------------------------------------------------------


def sweep_beside_a_live_broker() -> None:
    with serving("double") as broker:
        alive = broker.names()
        with serving("double") as other:
            other.kill()
            left = other.names()
            assert left
            found = finding("left-over names", broker.address)
            assert found.level is Severity.WARNING
            assert f"pid {int(left[0].split('.')[-2])}" in found.found
            assert "onesession doctor --sweep" in found.remedy
            assert other.names() == left
            done = doctor("--sweep", "--name", broker.address)
            assert done.returncode == 0, done.stdout
            assert all(name in done.stdout for name in left)
            assert other.names() == []
        assert broker.names() == alive
        with worker_client.connect(broker.address) as client:
            np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)


@pytest.mark.skipif(
    not CAN_MOUNT, reason="needs a /dev/shm of its own: what other programs left is not for a test"
)
def test_only_dead_brokers_names_are_swept() -> None:
    """Names of a killed broker are told, and removed by `--sweep`; a live broker's are not touched by either."""
    in_small_shm("2g", "sweep_beside_a_live_broker", module=__name__)


def test_a_live_brokers_names_are_known_without_its_pid(
    broker: TestBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another container its pid does not exist; the lock on its doorbell tells that it lives."""
    monkeypatch.setattr(leftovers.processes, "exists", lambda pid: False)
    (name,) = broker.names()
    assert SHM / name not in leftovers.dead()


def test_foreign_names_are_nobodys(place: Path) -> None:
    """What merely looks alike in /dev/shm is not taken for a broker's."""
    names = ["onesession-notes", f"onesession.{'0' * 12}.x.1", f"sem.onesession.{'g' * 12}.99999999.1"]
    assert leftovers.by_broker(Path("/dev/shm", name) for name in names) == {}


def test_a_name_made_by_a_live_process_stays(place: Path) -> None:
    """In the moment between making a name and locking it, the maker's pid keeps it."""
    name = f"{name_prefix(place / 'b.sock')}{os.getpid()}.1"
    made = posix_ipc.Semaphore(name, posix_ipc.O_CREX, mode=0o600)
    try:
        assert SHM / f"sem.{name[1:]}" not in leftovers.dead()
    finally:
        made.unlink()
        made.close()
