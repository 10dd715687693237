"""Whose workers may attach. Needs root, which can become anybody."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import worker_client
from broker.access import Access
from tests.brokers import TestBroker, serving
from tests.workers import worker
from worker_client import BrokerError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

ROW = np.ones((1, 4), np.float32)
LARGE = np.ones((4000, 4), np.float32)
NOBODY, STRANGER, GROUP = 65534, 54321, 54322


def as_user(uid: int, gid: int, groups: list[int], address: str) -> str:
    """What becomes of calls by a worker of this user: of all kinds, so that everything it opens is opened."""
    os.setgroups(groups)
    os.setgid(gid)
    os.setuid(uid)
    try:
        with worker_client.connect(address, timeout=30) as client:
            model = client.model("double")
            np.testing.assert_array_equal(model.predict(ROW), 2 * ROW)
            np.testing.assert_array_equal(model.predict(LARGE), 2 * LARGE)
            futures = [model.submit(ROW) for _ in range(40)]
            for future in futures:
                np.testing.assert_array_equal(future.result(30), 2 * ROW)
    except BrokerError as error:
        return f"{type(error).__name__}: {error}"
    return "answered"


def outcome(broker: TestBroker, uid: int, gid: int, groups: list[int] | None = None) -> str:
    Path(broker.address).parent.chmod(0o711)
    with worker(as_user, uid, gid, groups or [], broker.address) as child:
        result: str = child.result()
        return result


def test_strangers_are_refused() -> None:
    """Unless told, a broker serves its own user and root only."""
    with serving("double") as broker:
        assert "answered" not in outcome(broker, NOBODY, NOBODY)
        assert outcome(broker, 0, 0) == "answered"


@pytest.mark.parametrize(
    ("options", "user"),
    [
        ({"allow_uid": (NOBODY,)}, (NOBODY, STRANGER, [])),
        ({"allow_uid": (NOBODY, 54000)}, (NOBODY, STRANGER, [])),
        ({"allow_gid": (GROUP,)}, (NOBODY, GROUP, [])),
        ({"allow_gid": (GROUP,)}, (NOBODY, STRANGER, [GROUP])),
        ({"allow_uid": (54000,), "allow_gid": (GROUP,)}, (NOBODY, STRANGER, [GROUP])),
    ],
)
def test_who_is_allowed_is_served(
    options: dict[str, tuple[int, ...]], user: tuple[int, int, list[int]]
) -> None:
    """By user, by first group or by another of its groups; and still nobody else."""
    with serving("double", **options) as broker:
        assert outcome(broker, *user) == "answered"
        assert "answered" not in outcome(broker, STRANGER, STRANGER)


def test_files_are_the_users_own() -> None:
    """Without allowances nobody else can reach the socket or open a semaphore."""
    with serving("double") as broker, worker_client.connect(broker.address) as client:
        client.model("double").predict(ROW)
        modes = [
            path.stat().st_mode & 0o777 for path in Path("/dev/shm").iterdir() if path.name in broker.names()
        ]
        assert modes
        assert set(modes) == {0o600}
        assert Path(broker.address).stat().st_mode & 0o777 == 0o600


def test_allowances_need_root() -> None:
    """Another user's broker could not give its semaphores away; it says so."""

    def widen() -> str:
        os.setuid(NOBODY)
        try:
            Access(uids=(STRANGER,))
        except BrokerError as error:
            return str(error)
        return "made"

    with worker(widen) as child:
        assert "allow_uid and allow_gid are for a broker that runs as root" in child.result()
