"""uWSGI's own: its time limit, its forks, and `Broker` in its master, whose sys.executable is not Python. That its
workers of every kind answer is in test_examples.py."""

from __future__ import annotations

import threading

import pytest

from tests.servers.gunicorns import APP
from tests.servers.running import BIN, Server, place, running

RUN = ["python", "-m", "broker", "run", "--model", "tell=tests.process.models:tell", "--name", "test", "--"]
UWSGI = ["uwsgi", "--master", "--enable-threads", "--die-on-term", "--module", "app:app"]
WARM_UP = """
tell.predict({"x": np.zeros((1, 4), np.float32), "row": np.array([0])})
import time
time.sleep(0.2)  # no thread waits for the interpreter's lock when uWSGI forks (tests/forks.py)
"""
CALLERS = 8
CALLS = 80

pytestmark = pytest.mark.skipif(
    not (BIN / "uwsgi").exists(), reason="uwsgi is built from source: pip install uwsgi"
)


def test_harakiri_is_passed_on() -> None:
    """A call without its own timeout ends when nine tenths of uWSGI's time limit have passed."""
    with place() as here:
        here.write("app.py", APP)
        options = ["--processes", "1", "--http-socket", "127.0.0.1:0", "--harakiri", "40"]
        with running(here, [*RUN, *UWSGI, *options]) as server:
            assert server.ask(1)["timeout"] == 0.9 * 40


IN_MASTER = (
    """
import os, sys
from broker import Broker
assert os.path.basename(sys.executable) == "uwsgi"
broker = Broker({"tell": "tests.process.models:tell"}, name="test")
broker.start()
os.environ["BROKER_ADDRESS"] = broker.address
"""
    + APP
)


def test_a_broker_in_the_master() -> None:
    """At the top of the app's module, where the model was: its process is started with a Python that is one."""
    with place() as here:
        here.write("app.py", IN_MASTER)
        with running(here, [*UWSGI, "--processes", "1", "--http-socket", "127.0.0.1:0"]) as server:
            assert server.ask(1)["pid"] != server.pid
            server.broker()


@pytest.mark.alone
@pytest.mark.parametrize(
    "options",
    [[], ["--threads", "2"], ["--py-call-osafterfork"], ["--threads", "2", "--py-call-osafterfork"]],
    ids=lambda options: " ".join(options) or "defaults",
)
def test_a_warm_up_call_in_the_master(options: list[str]) -> None:
    """The app calls as it is imported, in the master. Every answer of every worker is the caller's own, whether
    uWSGI tells Python of its forks or not.

    Alone, as beside other tests a fork that Python is not told of may meet a thread that waits for the interpreter's
    lock (`tests/forks.py`), and no library can help the worker then.
    """
    with place() as here:
        here.write("app.py", APP + WARM_UP)
        address = ["--http-socket", "127.0.0.1:0", "--processes", "4", "--harakiri", "30"]
        with running(here, [*RUN, *UWSGI, *address, *options]) as server:
            wrong, pids = ask_all(server)
            assert wrong == []
            assert len(pids) > 1
            assert "un-acquired" not in server.log()
            assert "HARAKIRI" not in server.log()


def ask_all(server: Server) -> tuple[list[object], set[int]]:
    """CALLERS * CALLS requests: what came that was not right, and who answered."""
    wrong: list[object] = []
    pids: set[int] = set()

    def ask(caller: int) -> None:
        for call in range(CALLS):
            row = 1000 * caller + call
            try:
                answer = server.ask(row)
                pids.add(answer["pid"])
                if answer["y"] != [[3.0 * row] * 4]:
                    wrong.append((row, answer))
            except Exception as error:
                wrong.append((row, error))

    threads = [threading.Thread(target=ask, args=(caller,)) for caller in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong, pids
