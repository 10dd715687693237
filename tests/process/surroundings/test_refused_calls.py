"""Hardened hosts: a seccomp filter refuses system calls, in the worker, in the broker, in whoever starts both."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import worker_client
from broker.host import system_calls
from broker.host.processors import cores
from tests import seccomp
from tests.brokers import TestBroker
from tests.process.models import double
from tests.servers.running import BIN, place
from tests.workers import in_child
from worker_client import BrokerError
from worker_client.ipc.segment import Segment
from worker_client.system import processor, refusal

pytestmark = seccomp.needed

MODELS = ("double",)
ROW = np.ones((1, 4), np.float32)

RESOURCES = (
    "sched_setaffinity",
    "sched_setattr",
    "setpriority",
    "setrlimit",
    "prlimit64",
    "mbind",
    "ioprio_set",
)
"""Of systemd's @resources, as far as somebody here calls it: SystemCallFilter=~@resources."""
OPTIONAL = (
    *RESOURCES,
    "sched_getaffinity",
    "sched_getattr",
    "sched_yield",
    "fallocate",
    "unshare",
    "getcpu",
    "mlock",
    "madvise",
    "membarrier",
    "rseq",
    "prctl",
    "pidfd_open",
    "close_range",
    "getrandom",
    "statx",
)
NEEDED = ("memfd_create", "fchmod", "flock", "eventfd2", "pipe2")

ASK = """
import sys, numpy as np, worker_client
client = worker_client.connect(timeout=20)
model = client.model("double")
for i in range(200):
    x = np.full((1, 4), i, "float32")
    assert (model.predict(x) == 2 * x).all()
assert (model.submit(x).result(20) == 2 * x).all()
large = np.ones((5000, 4), "float32")
assert (model.predict(large) == 2 * large).all()
print("served")
"""


def run(*calls: str, error: int = errno.EPERM) -> subprocess.CompletedProcess[str]:
    """A worker under `onesession run`, all of it with these calls refused."""
    with place() as here:
        command = [BIN / "broker", "run", "--model", "double=tests.process.models:double", "--"]
        return subprocess.run(
            [*command, sys.executable, "-c", ASK],
            check=False,
            preexec_fn=lambda: seccomp.refuse(*calls, error=error),
            cwd=here.path,
            env=here.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.mark.parametrize("call", OPTIONAL)
def test_what_is_optional_is_done_without(call: str) -> None:
    """Right answers, large ones and futures too, and nothing that tells of an error."""
    ended = run(call)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "served\n"
    assert "Traceback" not in ended.stderr
    assert "not permitted" not in ended.stderr


@pytest.mark.parametrize(("calls", "error"), [(RESOURCES, errno.EPERM), (OPTIONAL, errno.ENOSYS)])
def test_whole_groups_are_done_without(calls: tuple[str, ...], error: int) -> None:
    """What one way around a refusal uses may be refused as well."""
    ended = run(*calls, error=error)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "served\n"
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
@pytest.mark.parametrize("call", [*NEEDED, "rt_sigtimedwait"])
def test_what_is_needed_is_named(call: str, error: int) -> None:
    """In one line, with who has to allow it; nothing is started, and no model is blamed."""
    ended = run(call, error=error)
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert re.fullmatch(
        rf"Error: the system call {call} is refused here \(.*\), and .* needs it; allow it in .*", line
    )


@pytest.mark.parametrize("call", NEEDED)
def test_a_broker_on_its_own_names_it_too(call: str) -> None:
    """In the process that an app makes its `Broker` in, and wherever an address is taken."""

    def child() -> None:
        seccomp.refuse(call)
        with pytest.raises(BrokerError, match=f"the system call {call} is refused here"):
            system_calls.check()

    in_child(child)


def test_an_answer_is_not_lost_for_an_affinity(broker: TestBroker) -> None:
    """A worker that polls in vain makes room for the broker; where it may not, it does without."""

    def child() -> None:
        with worker_client.connect(broker.address, timeout=20) as client:
            model = client.model("double")
            model.predict(ROW)
            seccomp.refuse("sched_setaffinity")
            if cores() > 1:
                with pytest.raises(PermissionError):
                    os.sched_setaffinity(0, {0})
            for _ in range(3):
                processor.leave_processor()
            for number in range(3000):
                row = np.full((1, 4), number, np.float32)
                np.testing.assert_array_equal(model.predict(row), double(row))

    in_child(child)


def test_a_worker_names_what_it_needs(broker: TestBroker) -> None:
    """Its broker may run under another filter."""

    def child() -> None:
        seccomp.refuse("pipe2")
        with pytest.raises(BrokerError, match="the system call pipe2 is refused here"):
            worker_client.connect(broker.address, timeout=20).model("double").predict(ROW)

    in_child(child)


def test_pages_are_taken_without_fallocate() -> None:
    """All of them, at once: memory that is lacking is told by an error, not by a signal in the middle of a write."""

    def child() -> int:
        seccomp.refuse("fallocate")
        segment = Segment.create("/onesession-test", (3 << 20) + 4096)
        taken = os.fstat(segment.fd).st_blocks * 512
        segment.close()
        return taken

    assert in_child(child) == (3 << 20) + 4096


def test_only_a_refusal_of_the_call_is_one() -> None:
    """What is about a file, a limit or memory is told as such."""
    for number in (errno.EACCES, errno.EMFILE, errno.ENOSPC, errno.ENOMEM, errno.EBADF):
        assert not refusal.is_refusal(OSError(number, ""))
