"""The limits of a real control group, read by a process in it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import worker_client
from broker.doctor.all_checks import CHECKS
from broker.doctor.checks.address import check_broker
from broker.doctor.finding import Severity
from broker.host.cgroup import Group, groups
from tests.brokers import serving, wait_until
from worker_client.wire.layout import POLL_NOT, POLL_WORD

ROOT = Path(__file__).parents[3]
MIB = 1 << 20
LIMIT, FILE = 256 * MIB, 96 * MIB

INSIDE = """\
import json, os, sys
from broker.host.memory_left import left_bytes
from broker.host.processors import quota
before = left_bytes()
with open(sys.argv[1], "wb") as file:
    for _ in range(int(sys.argv[2]) >> 20):
        file.write(bytes(1 << 20))
    os.fsync(file.fileno())
used = int(open(sys.argv[3]).read())
print(json.dumps({"before": before, "after": left_bytes(), "used": used, "quota": quota()}))
"""


@contextlib.contextmanager
def own_group(controller: str) -> Iterator[Group]:
    """A new group just below the top of what can be seen. Skips where none can be made."""
    above = groups(controller)
    if not above:
        pytest.skip(f"no hierarchy of control groups for {controller} is mounted here")
    group = Group(above[-1].folder / f"onesession-test-{controller}-{os.getpid()}", above[-1].version)
    try:
        group.folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        if not list(group.folder.glob(f"{controller}.*")):
            pytest.skip(f"groups below {above[-1].folder} have no controller {controller}")
        yield group
    finally:
        group.folder.rmdir()


def set_limit(group: Group, of_version_1: dict[str, int], of_version_2: dict[str, str]) -> None:
    for name, value in (of_version_1 if group.version == 1 else of_version_2).items():
        try:
            (group.folder / name).write_text(f"{value}\n")
        except OSError as error:
            pytest.skip(f"{group.folder / name} cannot be set: {error}")


def run_in(group: Group, *arguments: str) -> str:
    """The output of a Python process that is in the group from its first instruction on."""
    script = 'echo $$ > "$0" && exec "$@"'
    return subprocess.run(
        ["sh", "-c", script, str(group.folder / "cgroup.procs"), sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def test_memory_of_a_real_group() -> None:
    """Its limit is seen, and a file that is only cached there takes nothing of it."""
    with own_group("memory") as group, tempfile.TemporaryDirectory(dir="/var/tmp") as disk:
        set_limit(group, {"memory.limit_in_bytes": LIMIT}, {"memory.max": str(LIMIT)})
        used = group.folder / ("memory.current" if group.version == 2 else "memory.usage_in_bytes")
        found = json.loads(run_in(group, "-c", INSIDE, f"{disk}/file", str(FILE), str(used)))
    assert found["used"] > FILE
    assert LIMIT - FILE < found["after"] <= LIMIT
    assert abs(found["before"] - found["after"]) < FILE // 4


def test_the_quota_of_a_real_group() -> None:
    """Half a processor is half a one."""
    with own_group("cpu") as group:
        set_limit(
            group, {"cpu.cfs_period_us": 40_000, "cpu.cfs_quota_us": 20_000}, {"cpu.max": "20000 40000"}
        )
        code = "from broker.host.processors import tightest_quota as q; print(q().processors, q().file)"
        told = run_in(group, "-c", code).split()
    assert told[0] == "0.5"
    assert Path(told[1]).parent == group.folder


def test_doctor_names_a_real_quota() -> None:
    """Of the broker, which is in another group than the shell that asks."""
    with own_group("cpu") as group, serving("double") as broker:
        set_limit(group, {"cpu.cfs_quota_us": 50_000}, {"cpu.max": "50000 100000"})
        (group.folder / "cgroup.procs").write_text(f"{broker.pid}\n")
        found = CHECKS["CPU quota"](check_broker(Path(broker.address))[1])
    assert found.level is Severity.WARNING
    assert str(group.folder) in found.found
    assert "allows 0.5 of the" in found.found


def test_tuning_in_a_real_group() -> None:
    """What the group has cached leaves room for the processes that measure; what is in use does not."""
    code = f"""\
import os, sys
from broker.tuning import experiment
experiment.PROCESS_BYTES = {LIMIT} // 4
with open(sys.argv[1], "wb") as file:
    for _ in range({LIMIT // MIB} - 64):
        file.write(bytes(1 << 20))
    os.fsync(file.fileno())
print(experiment._fits(experiment._needed(1, 0, 0)))
used = b"1" * ({LIMIT} // 8 * 5)
print(experiment._fits(experiment._needed(1, 0, 0)))
"""
    with own_group("memory") as group, tempfile.TemporaryDirectory(dir="/var/tmp") as disk:
        set_limit(group, {"memory.limit_in_bytes": LIMIT}, {"memory.max": str(LIMIT)})
        assert run_in(group, "-c", code, f"{disk}/file").split() == ["True", "False"]


@contextlib.contextmanager
def inside(group: Group) -> Iterator[None]:
    """What this process starts meanwhile is in the group."""
    (before,) = groups("cpu")[:1]
    (group.folder / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (before.folder / "cgroup.procs").write_text(str(os.getpid()))


def test_a_quota_forbids_to_poll() -> None:
    """Less than a processor for worker and broker each: polling would use up what they have to compute with. A limit
    that is lifted is noticed."""
    with own_group("cpu") as group:
        set_limit(group, {"cpu.cfs_quota_us": 150_000}, {"cpu.max": "150000 100000"})
        with contextlib.ExitStack() as stack:
            with inside(group):
                broker = stack.enter_context(serving("double"))
            client = stack.enter_context(worker_client.connect(broker.address))

            def reason() -> str:
                client.model("double").predict(np.ones((1, 4), np.float32))
                return str(broker.status()["waiting"]["reason"])

            wait_until(lambda: reason() == "quota", "that nobody polls")
            assert client._connection.channel()._words[POLL_WORD] == POLL_NOT
            set_limit(group, {"cpu.cfs_quota_us": -1}, {"cpu.max": "max 100000"})
            wait_until(lambda: reason() != "quota", "that the limit is gone")
