"""gunicorn under `onesession run`: the broker is the server's parent."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import pytest

from tests.brokers import wait_until
from tests.commands import command_of
from tests.servers.gunicorns import APP, workers_of
from tests.servers.running import OTHER_SERVERS, Server, Traffic, place, running


@contextlib.contextmanager
def under_broker_run(*options: str) -> Iterator[tuple[Server, int]]:
    """The server, which is `onesession run`, and the arbiter's process id."""
    run = [
        "python",
        "-m",
        "broker",
        "run",
        "--model",
        "tell=tests.process.models:tell",
        "--name",
        "test",
        "--",
    ]
    command = ["gunicorn", "--config", "/dev/null", "--bind", "127.0.0.1:0", "--workers", "2", *options]
    with place() as here:
        here.write("app.py", APP)
        with running(here, [*run, *command, "app:app"]) as server:
            server.ask(1)
            yield server, command_of(server.pid).pid


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--preload"],
        pytest.param(["--worker-class", "gevent"], marks=pytest.mark.slow),
        ["--threads", "3"],
    ],
)
def test_broker_run_serves_gunicorn(options: list[str]) -> None:
    """Workers answer before, during and after a reload and with one more of them; SIGTERM ends all in order."""
    if "gevent" in options:
        pytest.importorskip("gevent")
    if "--threads" in options and OTHER_SERVERS:
        pytest.skip("gthread once dropped connections at the end of a worker: benoitc/gunicorn#3038")
    with under_broker_run(*options) as (server, arbiter):
        broker, old = server.broker(), set(workers_of(server, arbiter))
        with Traffic(server.ask) as traffic:
            server.signal(signal.SIGHUP)
            wait_until(
                lambda: traffic.failures or len(traffic.pids - old) >= 2, "answers of both new workers"
            )
            server.signal(signal.SIGTTIN)
            wait_until(lambda: traffic.failures or len(traffic.pids - old) >= 3, "the third worker's answer")
        traffic.check()
        assert server.broker() == broker
        server.remember()
        server.signal(signal.SIGTERM)
        assert server.wait_for_end() == 0
        server.wait_until_gone()


def test_broker_run_recycles_workers() -> None:
    """With --max-requests, workers come and go under load; every request is answered, rightly."""
    with under_broker_run("--max-requests", "20") as (server, _), Traffic(server.ask) as traffic:
        wait_until(lambda: traffic.failures or len(traffic.pids) >= 6, "six workers' answers")
        traffic.wait_for(20)
