"""`python -m benchmarks peers`: who takes turns with whom, who is left out and why, and what is left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.harness.arm import Arm, ArmFailed
from benchmarks.harness.interleaved import Pace
from benchmarks.machine import ROOT
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.environment import Environment, NotInstalled
from benchmarks.peers.http_client import BadResponse, posting
from benchmarks.peers.other_system import OtherSystem
from benchmarks.peers.turns import order, run_in_turns
from tests.process import peer_servers

ONCE = Pace(seconds=0.05, warm_up_s=0.01, most=1, seed=1)


@pytest.fixture(autouse=True)
def same_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["peers", *arguments], catch_exceptions=False)
    return result.exit_code, result.output


def arm(name: str, workers: int = 1, **options: object) -> Arm:
    return Arm(
        name,
        name,
        "benchmarks.peers.server_arm:server_arm",
        "head",
        {"workers": workers, **options},
        facts={"workers": 1},
    )


def served(directory: Path, module: str, connect: str = "connect") -> Arm:
    where = {"module": f"tests.process.{module}", "connect": connect, "directory": str(directory)}
    return arm(f"{module}-{connect}", **where, path=None, threads=1)


def test_quick_measures_a_peer_beside_the_broker(tmp_path: Path) -> None:
    """Each has its answers checked, its memory, its start and its CPU time, and there is a ratio for each of these."""
    path = tmp_path / "peers.json"
    status, output = run("--only", "pipe", "--model", "head", "--quick", "--json", str(path))
    assert status == 0, output
    document = json.loads(path.read_text())
    assert document["options"]["workers"] == [2]
    result = document["targets"]["peer pipe, head"]
    assert result["arms"].keys() == {"broker-2", "pipes-one-2"}
    for each in result["arms"].values():
        assert each["answers_checked"] > 0
        assert each["memory_mb_median"] > 1
        assert each["start_s_median"] > 0
        assert each["cpu_s_per_1000"]["median"] > 0
    about = {figure["label"].split(": ")[1].split(",")[0] for figure in result["figures"]}
    assert about == {"answers/s", "CPU of an answer", "memory", "start"}
    assert "Pipe + pickle" in output


def test_add_keeps_what_was_measured_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --add, the file's other peers stay in it, and say where and when they were measured.

    Of one that could not be installed now, the reason is in it.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "peers.json"
    old = {"title": "", "arms": {}, "figures": [], "notes": [], "skipped": {}, "other_load": 0.0}
    about = {"machine": {"cpu": "another"}, "started": "2026-11-20"}
    path.write_text(json.dumps({**about, "targets": {"peer mosec": old, "peer grpc, head": old}}))
    options = ["--only", "grpc", "--model", "head", "--quick", "--install-timeout", "1"]
    status, output = run(*options, "--add", "--json", str(path))
    assert status == 0, output
    targets = json.loads(path.read_text())["targets"]
    assert targets.keys() == {"peer mosec", "peer grpc, head"}
    assert targets["peer mosec"] == {**old, **about}
    assert "took too long to install" in targets["peer grpc, head"]["skipped"]["gRPC PredictionService"]


def test_list_tells_every_peer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With its pinned version, and that it is not installed where the cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    status, output = run("--list")
    assert status == 0
    for name, peer in PEERS.items():
        line = next(line for line in output.splitlines() if line.split()[:1] == [name])
        assert "".join(peer.requirements[:1]) in line
        assert ("not installed yet" in line) == bool(peer.requirements)
    assert not list(tmp_path.iterdir())


def test_an_unknown_name_is_refused() -> None:
    status, output = run("--only", "pipe,carrier-pigeon")
    assert status == 2
    assert "no peer carrier-pigeon; there are in-process, " in output


def test_each_round_has_every_arm_once_and_begins_with_another() -> None:
    """A B, B A, A B: the broker is measured between its peers, not before all of them."""
    one, other = arm("one"), arm("other")
    assert [(number, each.name) for number, each in order([one, other], 3)] == [
        (0, "one"),
        (0, "other"),
        (1, "other"),
        (1, "one"),
        (2, "one"),
        (2, "other"),
    ]


@pytest.fixture
def pids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "pids"
    monkeypatch.setenv(peer_servers.PIDS, str(path))
    yield path
    for pid in map(int, path.read_text().split()):
        assert not (psutil.pid_exists(pid) and runs(psutil.Process(pid)))


def runs(process: psutil.Process) -> bool:
    """Not ended; one that has ended stays as a zombie where process 1 waits for nobody, as in a container."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_server_is_called_and_ended_with_all_its_processes(tmp_path: Path, pids: Path) -> None:
    """Also those that SIGTERM does not end. Every turn is a start of its own."""
    one = served(tmp_path, "peer_servers")
    series, skipped = run_in_turns([one], 2, ONCE, lambda *_: None, needed="")
    assert skipped == {}
    assert len(series[one.name].windows) == len(series[one.name].facts["starts"]) == 2
    assert series[one.name].checked > 2


def test_a_server_that_does_not_start_is_left_out_with_its_last_words(tmp_path: Path, pids: Path) -> None:
    """The others are measured."""
    ends, one = served(tmp_path, "peer_server_that_ends"), served(tmp_path, "peer_servers")
    series, skipped = run_in_turns([ends, one], 1, ONCE, lambda *_: None, needed="")
    assert series.keys() == {one.name}
    assert skipped.keys() == {ends.label}
    assert skipped[ends.label].endswith("the server ended with status 1: the licence has expired")


def test_ctrl_c_ends_what_was_started(tmp_path: Path, pids: Path) -> None:
    """In the middle of a window: the run, the crew, its members, the server and its child."""
    code = (
        "import pathlib, sys; from tests.process.benchmarks import test_peers as here\n"
        "one, endless = here.served(pathlib.Path(sys.argv[1]), 'peer_servers'), here.Pace(60.0, 0.1, 1, 1)\n"
        "here.run_in_turns([one], 1, endless, lambda *_: None, needed='')"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE)
    try:
        limit = time.monotonic() + 30
        while not pids.exists() or len(psutil.Process(running.pid).children(recursive=True)) < 4:
            assert time.monotonic() < limit
            time.sleep(0.02)
        everything = psutil.Process(running.pid).children(recursive=True)
        os.killpg(running.pid, signal.SIGINT)
        _, said = running.communicate(timeout=30)
    finally:
        running.kill()
        running.wait()
    assert b"KeyboardInterrupt" in said
    assert not [each for each in everything if runs(each)]


def test_a_wrong_answer_is_no_reason_to_leave_a_peer_out(tmp_path: Path, pids: Path) -> None:
    """It fails the run; the server is ended all the same."""
    with pytest.raises(ArmFailed, match="WrongAnswer"):
        run_in_turns(
            [served(tmp_path, "peer_servers", "connect_wrongly")], 1, ONCE, lambda *_: None, needed=""
        )


def test_an_installation_that_takes_too_long_is_ended_and_remembered(tmp_path: Path) -> None:
    """The reason is told by the error, and to those who ask later; nothing passes for installed."""
    peer = OtherSystem("slow", "slow", (), requirements=("slow==1",))
    before = set(psutil.Process().children())
    assert Environment(peer, tmp_path).absent() == "not installed yet"
    with pytest.raises(NotInstalled, match="took too long to install"):
        Environment(peer, tmp_path).install(timeout_s=0.01)
    why = Environment(peer, tmp_path).absent()
    assert why is not None
    assert why.startswith("took too long to install")
    assert set(psutil.Process().children()) <= before


def test_a_peer_of_this_environment_tells_what_it_lacks(tmp_path: Path) -> None:
    peer = OtherSystem("nothing", "nothing", (), imports=("no_such_module",))
    with pytest.raises(NotInstalled, match="No module named 'no_such_module'"):
        Environment(peer, tmp_path).install()
    assert not list(tmp_path.iterdir())


def test_what_was_asked_for_is_part_of_the_environments_name(tmp_path: Path) -> None:
    """Another version goes into another folder."""
    one, other = (Environment(OtherSystem("p", "p", (), requirements=(f"p=={v}",)), tmp_path) for v in (1, 2))
    assert one.folder != other.folder
    assert Environment(one.peer, tmp_path).folder == one.folder


def test_an_error_of_the_server_is_not_an_answer(httpd: int) -> None:
    """Its status and body are in the error."""
    with posting(httpd, "/", "text/plain") as post, pytest.raises(BadResponse, match="503.*busy"):
        post(b"x")


@pytest.fixture
def httpd() -> Iterator[int]:
    """A port where every request is answered with 503."""

    class Busy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(503)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"busy")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        yield server.server_port
        thread.join()
