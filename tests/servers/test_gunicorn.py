"""gunicorn with two lines in its configuration: the broker shares the arbiter's life."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from broker.control_plane.query import ask
from broker.integrations import gunicorn as integration
from tests.brokers import wait_until
from tests.commands import PATIENCE_S
from tests.servers.gunicorns import CONF, DEADLINE_S, gunicorn, gunicorn_in, workers_of
from tests.servers.running import OTHER_SERVERS, Server, Traffic, command_line, lives
from worker_client import InvalidInput


@pytest.mark.parametrize("preload", [True, False], ids=["preload", "no-preload"])
@pytest.mark.parametrize("worker_class", ["sync", "gthread", "gevent"])
def test_every_worker_class_answers(worker_class: str, preload: bool) -> None:
    """Workers of each class reach the broker, whether the app was imported before the fork or after it."""
    if worker_class == "gevent":
        pytest.importorskip("gevent")
    options = ["--worker-class", worker_class, *(["--preload"] if preload else [])]
    if worker_class == "gthread":
        options += ["--threads", "3"]
    with gunicorn(*options) as server, Traffic(server.ask) as traffic:
        wait_until(lambda: traffic.failures or len(traffic.pids) == 2, "answers of both workers")
        traffic.wait_for(20)
        assert server.broker() not in traffic.pids
        assert server.ask(1)["timeout"] == DEADLINE_S


ASGI_APP = """
import asyncio, json, os, urllib.parse
import numpy as np
import worker_client.aio

tell = worker_client.aio.connect().model("tell")
beside = worker_client.connect().model("tell")


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    row = int(urllib.parse.parse_qs(scope["query_string"].decode())["row"][0])
    answer = await tell.predict({"x": np.full((1, 4), row, np.float32), "row": np.array([row])})
    timeout = await asyncio.to_thread(lambda: beside.timeout)
    body = json.dumps({"pid": os.getpid(), "timeout": timeout, "y": answer["y"].tolist()}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.mark.skipif(OTHER_SERVERS != "", reason="only newer versions of gunicorn have it")
@pytest.mark.parametrize("preload", [True, False], ids=["preload", "no-preload"])
def test_the_built_in_asgi_worker_answers(preload: bool) -> None:
    """With `worker_client.aio`, whose client may be made before the fork as well."""
    options = ["--worker-class", "asgi", *(["--preload"] if preload else [])]
    with gunicorn(*options, app=ASGI_APP) as server, Traffic(server.ask) as traffic:
        wait_until(lambda: traffic.failures or len(traffic.pids) == 2, "answers of both workers")
        traffic.wait_for(20)
        assert server.ask(1)["timeout"] == DEADLINE_S


def test_the_arbiter_gets_no_tensorflow_and_no_thread() -> None:
    """The process that forks stays lean: no TensorFlow, and no thread of ours."""
    probe = """
import sys, threading
def pre_fork(server, worker):
    heavy = sorted({"tensorflow", "keras"} & set(sys.modules))
    server.log.info("in the arbiter: %s", [heavy, threading.active_count()])
"""
    with gunicorn(conf=probe + CONF) as server:
        server.ask(1)
        server.wait_for_log("in the arbiter: [[], 1]", times=2)


def test_the_brokers_own_file_serves_as_well() -> None:
    """The broker's own file serves with its settings and its name; gunicorn's file overrides it."""
    conf = """
import pathlib
pathlib.Path("broker.toml").write_text(
    'name = "shop"\\nslots = 3\\nmax_slots = 5\\n[models]\\ntell = "tests.process.models:tell"\\n'
)
from broker.integrations import gunicorn
gunicorn.serve(globals(), config="broker.toml", max_slots=7)
"""
    with gunicorn(conf=conf) as server:
        server.ask(1)
        (path,) = server.place.sockets()
        (worker, *_) = ask(path, "status")["status"]["workers"]
        assert worker["slots"] == 3
        assert path.name == "shop.sock"


def test_it_is_found_by_its_name() -> None:
    """Commands find it without an address, like any other broker: as `default`, or by the name that the file gives."""
    with gunicorn(conf=CONF.replace("})", '}, name="shop")')) as server:
        server.ask(1)
        assert [path.name for path in server.place.sockets()] == ["shop.sock"]
        for words in (("models",), ("models", "--name", "shop")):
            shown = subprocess.run(
                [sys.executable, "-m", "broker", *words],
                env=server.place.environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=True,
            )
            assert "tell" in shown.stdout


def test_two_apps_of_one_name() -> None:
    """Started at the same time, each has a broker and an address of its own: one of them has a number."""
    with gunicorn() as one, gunicorn_in(one.place) as other:
        wait_until(lambda: len(one.place.sockets()) == 2, "both sockets")
        other.wait_for_log("Booting worker", times=4)
        sockets = one.place.sockets()
        assert {path.name for path in sockets} == {"default.sock", "default-2.sock"}
        pids = {ask(path, "status")["status"]["pid"] for path in sockets}
        assert pids == {one.broker(), other.broker()}


@pytest.mark.parametrize(
    "both", [{}, {"models": {"m": "a:b"}, "config": "broker.toml"}], ids=["neither", "both"]
)
def test_what_to_serve_is_said_once(both: dict[str, Any]) -> None:
    """Either models or the file that names them must be given, not both."""
    with pytest.raises(InvalidInput, match="takes either models"):
        integration.serve({}, **both)


def test_recycled_workers_lose_no_request() -> None:
    """With --max-requests, workers come and go under load; every request is answered, rightly."""
    with gunicorn("--max-requests", "20", "--max-requests-jitter", "5") as server:
        broker = server.broker()
        with Traffic(server.ask) as traffic:
            wait_until(lambda: traffic.failures or len(traffic.pids) >= 6, "six workers' answers")
        traffic.check()
        assert server.broker() == broker


@pytest.mark.parametrize("preload", [True, False], ids=["preload", "no-preload"])
def test_a_reload_keeps_the_broker(preload: bool) -> None:
    """SIGHUP replaces the workers under load; the broker, its address and its models stay, and no request is lost."""
    with gunicorn(*(["--preload"] if preload else [])) as server:
        broker = server.broker()
        old = set(wait_until(lambda: len(found := workers_of(server)) == 2 and found, "both workers"))
        with Traffic(server.ask) as traffic:
            server.signal(signal.SIGHUP)
            wait_until(
                lambda: traffic.failures or len(traffic.pids - old) >= 2, "answers of both new workers"
            )
        traffic.check()
        assert server.broker() == broker
        assert len(server.place.sockets()) == 1
        assert "settings have changed" not in server.log()


def test_a_reload_with_other_settings() -> None:
    """gunicorn's new timeout is in force; the broker stays as it is, and the log says how its new models would be."""
    with gunicorn() as server:
        old = server.ask(1)
        more = CONF.replace("})", ', "double": "tests.process.models:double"})')
        server.place.write("gunicorn.conf.py", more.replace("timeout = 40", "timeout = 50"))
        server.signal(signal.SIGHUP)
        server.wait_for_log("take effect with an upgrade (SIGUSR2) or a restart")
        assert old["timeout"] == DEADLINE_S
        wait_until(lambda: server.ask(2)["timeout"] == 0.9 * 50, "the new timeout")


def test_workers_are_added_and_taken_away() -> None:
    """After SIGTTIN and SIGTTOU all workers there are answer."""
    with gunicorn(workers=1) as server, Traffic(server.ask) as traffic:
        traffic.wait_for(1)
        server.signal(signal.SIGTTIN)
        wait_until(lambda: len(workers_of(server)) == 2, "a second worker")
        server.signal(signal.SIGTTIN)  # only now: the kernel makes one of two that come together
        wait_until(lambda: traffic.failures or len(traffic.pids) == 3, "answers of three workers")
        server.signal(signal.SIGTTOU)
        wait_until(lambda: len(workers_of(server)) == 2, "one worker fewer")
        traffic.wait_for(20)


@pytest.mark.parametrize(
    "preload", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["preload", "no-preload"]
)
def test_an_upgrade_has_two_brokers_side_by_side(preload: bool) -> None:
    """After SIGUSR2 each arbiter has its broker; when the old one ends, so does its broker, and nothing is lost."""
    with gunicorn(*(["--preload"] if preload else [])) as server, Traffic(server.ask) as traffic:
        traffic.wait_for(5)
        old_broker = psutil.Process(server.broker())
        server.signal(signal.SIGUSR2)
        server.wait_for_log("Listening at", times=2)
        new = wait_until(lambda: new_arbiter(server), "the new arbiter's broker")
        wait_until(
            lambda: traffic.failures or traffic.pids & set(workers_of(server, new)), "a new worker's answer"
        )
        new_broker = psutil.Process(server.broker(new))
        assert {path.name for path in server.place.sockets()} == {"default.sock", "default-2.sock"}
        try:
            server.signal(signal.SIGTERM)
            server.wait_for_end()
            assert not lives(old_broker)
            traffic.wait_for(20)
            assert server.place.sockets()
            assert lives(new_broker)
        finally:
            traffic.__exit__()
            successor = psutil.Process(new)
            server._tree.update({successor, *successor.children(recursive=True)})
            os.kill(new, signal.SIGTERM)
        server.wait_until_gone()


def new_arbiter(server: Server) -> int | None:
    """Of an upgrade: the child that has a broker of its own."""
    for child in psutil.Process(server.pid).children():
        if "gunicorn" in command_line(child) and server.brokers(child.pid):
            return child.pid
    return None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("runtime_mode", [0o700, 0o755], ids=["closed", "open"])
def test_workers_with_dropped_privileges_are_let_in(runtime_mode: int) -> None:
    """gunicorn's `user` and `group`: the broker stays root's, at an address that the workers can reach."""
    with gunicorn("--user", "nobody", "--group", "nogroup", runtime_mode=runtime_mode) as server:
        assert server.ask(1)["uid"] == 65534
        address = Path(server.log().partition("serving tell at ")[2].split()[0])
        assert address.is_relative_to(server.place.runtime) == (runtime_mode == 0o755)
        server.stop()
        assert not address.exists()


def test_a_killed_arbiter_takes_the_broker_with_it() -> None:
    """After SIGKILL to the arbiter its broker ends by itself, and nothing of it is left, not even its socket.

    gunicorn's own workers look for their arbiter only every half `timeout`, which is 15 s: they are ended here.
    """
    with gunicorn() as server:
        server.ask(1)
        broker = psutil.Process(server.broker())
        server.remember()
        workers = workers_of(server)
        server.signal(signal.SIGKILL)
        server.wait_for_end()
        wait_until(lambda: not lives(broker), "the broker's end")
        assert not server.place.sockets()
        for pid in workers:
            server.signal(signal.SIGTERM, pid)
        server.wait_until_gone()


def test_a_stop_waits_for_the_requests_under_way() -> None:
    """SIGTERM under load: what was accepted is answered before the broker goes; the arbiter's status is 0."""
    with gunicorn() as server:
        server.ask(1)
        server.remember()
        server.signal(signal.SIGTERM)
        assert server.wait_for_end() == 0
        server.wait_until_gone()
        assert "Traceback" not in server.log()


def test_a_killed_broker_comes_back() -> None:
    """After SIGKILL to the broker it is started again at the same address, and the same workers go on. Requests
    meanwhile wait for it: none fails."""
    with gunicorn() as server:
        wait_until(lambda: len(workers_of(server)) == 2, "both workers")
        workers, sockets = set(workers_of(server)), server.place.sockets()
        with Traffic(server.ask) as traffic:
            for times in (1, 2):
                traffic.wait_for(5)
                killed = server.broker()
                os.kill(killed, signal.SIGKILL)
                server.wait_for_log("the broker is back", times)
                traffic.wait_for(5)
                assert server.broker() != killed
            assert traffic.pids <= workers
        assert server.place.sockets() == sockets
        assert "was killed by SIGKILL; starting it again" in server.log()


def test_a_broker_that_cannot_start_ends_gunicorn() -> None:
    """The arbiter says why and ends with status 1, before it forks a worker."""
    with gunicorn(conf=CONF.replace("models:tell", "models:nothing")) as server:
        assert server.wait_for_end() == 1
        assert "The broker cannot start:" in server.log()
        assert "Booting worker" not in server.log()


def test_a_ctrl_c_while_the_broker_starts() -> None:
    """gunicorn itself has no handler yet: it would print a traceback."""
    with gunicorn(conf=CONF.replace("models:tell", "slow_to_load:none"), gated=True) as server:
        wait_until((server.place.path / "loading").exists, "the model to be loading")
        os.kill(server.pid, signal.SIGINT)
        assert server.wait_for_end() == 128 + signal.SIGINT
        assert "Traceback" not in server.log()


HOOKS = ("on_starting", "when_ready", "on_reload", "on_exit")
OF_WORKERS = ("pre_fork", "post_fork", "worker_exit", "child_exit")
SAY = r"import os; os.write(1, b'called {name}\n')"  # in one write: other processes write to the same log
OWN_HOOKS = "".join(f"def {name}(server): {SAY.format(name=name)}\n" for name in HOOKS) + "".join(
    f"def {name}(server, worker): {SAY.format(name=name)}\n" for name in OF_WORKERS
)


def test_the_files_own_hooks_are_called() -> None:
    """Every hook that the file defines above our line is called as if we were not there."""
    with gunicorn(conf=OWN_HOOKS + CONF) as server:
        server.ask(1)
        server.signal(signal.SIGHUP)
        server.wait_for_log("called worker_exit", times=2)
        server.ask(2)
        server.signal(signal.SIGTERM)
        assert server.wait_for_end() == 0
        assert [name for name in (*HOOKS, *OF_WORKERS) if f"called {name}\n" not in server.log()] == []


def test_an_on_starting_below_our_line_does_no_harm() -> None:
    """An `on_starting` below our line replaces ours; the broker then starts when the arbiter is ready, before any
    worker."""
    with gunicorn(conf=CONF + "def on_starting(server): print('called on_starting', flush=True)\n") as server:
        server.ask(1)
        assert "called on_starting" in server.log()


def test_the_configuration_can_be_checked_without_a_broker() -> None:
    """`gunicorn --check-config` reads the file, imports the app, and starts nothing."""
    with gunicorn("--check-config") as server:
        assert server.wait_for_end() == 0
        assert not list(server.place.runtime.iterdir())
