"""The examples in the documentation, run by their real servers as their comments say, with real traffic."""

from __future__ import annotations

import contextlib
import subprocess
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from tests.brokers import wait_until
from tests.servers.running import BIN, ROOT, Place, Server, Traffic, place, running

EXAMPLES = ROOT / "docs" / "examples"
BROKER_RUN = [
    "python",
    "-m",
    "broker",
    "run",
    "--model",
    "mean=example_model:mean",
    "--name",
    "example",
    "--",
]


@contextlib.contextmanager
def example(command: list[str], workers: int = 2) -> Iterator[Server]:
    """The server, each of whose workers has answered rightly, many at a time."""
    with place() as here, running(here, command, folder=EXAMPLES) as server:

        def ask(row: int) -> dict[str, Any]:
            query = urllib.parse.urlencode([("x", row), ("x", row + 1), ("x", row + 2), ("x", row + 5)])
            answer: dict[str, Any] = server.get(f"/mean?{query}")
            assert answer["mean"] == row + 2
            return answer

        with Traffic(ask) as traffic:
            wait_until(lambda: traffic.failures or len(traffic.pids) >= workers, "answers of all workers")
            traffic.wait_for(40)
        traffic.check()
        assert len(server.brokers()) == 1
        yield server


GUNICORN = ["gunicorn", "--workers", "2", "--bind", "127.0.0.1:0"]


@pytest.mark.parametrize("app", ["flask_app:app", "django_app:application"])
@pytest.mark.parametrize("preload", [True, False], ids=["preload", "no-preload"])
def test_gunicorn_serves_flask_and_django(app: str, preload: bool) -> None:
    """With the two lines of gunicorn.conf.py, which gunicorn finds by itself."""
    pytest.importorskip(app.partition("_")[0])
    with example([*GUNICORN, *(["--preload"] if preload else []), app]):
        pass


def test_flask_runs_under_broker_run() -> None:
    """The same app with the broker as the server's parent."""
    with example([*BROKER_RUN, *GUNICORN, "--config", "/dev/null", "flask_app:app"]):
        pass


def test_fastapi_runs_on_uvicorn() -> None:
    """Spawned workers, each with its client in the lifespan."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with example([*BROKER_RUN, "uvicorn", "--workers", "2", "--port", "0", "fastapi_app:app"]) as server:
        server.process.terminate()
        server.wait_for_end()
        assert "Traceback" not in server.log()


@pytest.mark.parametrize(
    "options",
    [[], ["--lazy-apps"], ["--threads", "3"], ["--lazy-apps", "--threads", "3"]],
    ids=["prefork", "lazy", "threads", "lazy-threads"],
)
def test_flask_runs_on_uwsgi(options: list[str]) -> None:
    """Imported in the master or in each worker, with threads or without."""
    if not (BIN / "uwsgi").exists():
        pytest.skip("uwsgi is built from source, which the tests' requirements leave out: pip install uwsgi")
    with example([*BROKER_RUN, "uwsgi", "--ini", "uwsgi.ini", "--http-socket", "127.0.0.1:0", *options]):
        pass


def test_celerys_prefork_pool_answers_every_task() -> None:
    """Fifty tasks through a folder, fifty right answers, in the pool's processes."""
    pytest.importorskip("celery")
    worker = ["celery", "--app", "celery_app", "worker", "--concurrency", "2", "--loglevel", "INFO"]
    with place() as here:
        tasks = here.path / "tasks"
        tasks.mkdir()
        with running(here, [*BROKER_RUN, *worker], folder=EXAMPLES, TASKS=str(tasks)) as server:
            server.wait_for_log("ready.")
            assert run(here, "celery_app.py", TASKS=str(tasks)).startswith("50 right answers from ")
            assert "Traceback" not in server.log()


def test_pools_of_every_start_method() -> None:
    """Pool and ProcessPoolExecutor by fork, forkserver and spawn; a parent that is attached already included."""
    with place() as here:
        lines = [f"{method}: 400 right answers\n" for method in ("fork", "forkserver", "spawn")]
        assert run(here, "pools.py") == "".join(lines)


def run(here: Place, program: str, **environment: str) -> str:
    """What an example prints that ends by itself."""
    done = subprocess.run(
        [BIN / "python", program],
        cwd=EXAMPLES,
        env={**here.environment, **environment},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout
