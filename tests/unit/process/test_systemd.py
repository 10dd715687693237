"""The notification protocol of systemd, on a socket of this test's, and when the watchdog is fed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator

import pytest

from broker.process.systemd import Service, ThreadProgress


class Thread:
    """Stands for a thread: does what it was asked for when the test lets it go round."""

    def __init__(self) -> None:
        self.asked: list[Callable[[], None]] = []

    def call(self, action: Callable[[], None]) -> None:
        self.asked.append(action)

    def go_round(self) -> None:
        while self.asked:
            self.asked.pop()()


@pytest.fixture
def systemd() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("")  # a name of its own, abstract
        sock.setblocking(False)
        yield sock


def address_of(systemd: socket.socket) -> str:
    return "@" + systemd.getsockname()[1:].decode()


def heard(systemd: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(systemd.recv(1000).decode())
        except BlockingIOError:
            return messages


def test_progress_is_every_threads() -> None:
    """A thread that has not done what it was asked for is stuck, alone, until it has; it is asked once."""
    intake, control = Thread(), Thread()
    progress = ThreadProgress({"intake": intake.call, "control": control.call})
    assert progress.stuck() == []
    control.go_round()
    assert progress.stuck() == ["intake"]
    control.go_round()
    assert progress.stuck() == ["intake"]
    assert len(intake.asked) == 1
    intake.go_round()
    assert progress.stuck() == ["control"]
    control.go_round()
    assert progress.stuck() == ["intake"]


def test_a_ping_is_sent_only_for_progress(systemd: socket.socket) -> None:
    """WATCHDOG=1 is withheld from the first look that finds a thread stuck until one that finds none."""
    thread = Thread()
    service = Service(address_of(systemd), 10.0)
    service.ready({"intake": thread.call})
    assert heard(systemd) == ["READY=1\nSTATUS=serving", "WATCHDOG=1"]
    service.tick()
    assert heard(systemd) == ["STATUS=no progress of intake"]
    thread.go_round()
    service.tick()
    assert heard(systemd) == ["WATCHDOG=1"]
    service.stopping()
    assert heard(systemd)[0].startswith("STOPPING=1\n")


@pytest.mark.parametrize(
    ("pid", "microseconds", "interval"),
    [
        ("own", "4000000", 2.0),
        ("", "4000000", 2.0),
        ("1", "4000000", None),
        ("own", "", None),
        ("own", "0", None),
    ],
)
def test_the_watchdog_is_for_the_process_it_names(
    monkeypatch: pytest.MonkeyPatch,
    systemd: socket.socket,
    pid: str,
    microseconds: str,
    interval: float | None,
) -> None:
    """The interval is half of $WATCHDOG_USEC, if that is meant for us; the variables are passed on to nobody."""
    monkeypatch.setenv("NOTIFY_SOCKET", address_of(systemd))
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert Service.from_environment().interval == interval
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a unit no socket is opened and nobody is watched."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setattr(socket, "socket", None)
    service = Service.from_environment()
    thread = Thread()
    service.ready({"intake": thread.call})
    service.tick()
    service.stopping()
    assert (service.interval, thread.asked) == (None, [])


def test_a_socket_that_is_gone_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be told is logged."""
    Service("/no/such/socket", None).ready({})
    assert "systemd could not be notified of READY=1" in caplog.text
