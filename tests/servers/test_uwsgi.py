"""uWSGI's own: its time limit, and `Broker` in its master, whose sys.executable is no Python. That its workers of
every kind answer is in test_examples.py."""

from __future__ import annotations

import pytest

from tests.servers.gunicorns import APP
from tests.servers.running import BIN, place, running

RUN = ["python", "-m", "broker", "run", "--model", "tell=tests.process.models:tell", "--name", "test", "--"]
UWSGI = ["uwsgi", "--master", "--processes", "1", "--enable-threads", "--die-on-term", "--module", "app:app"]


installed = pytest.mark.skipif(
    not (BIN / "uwsgi").exists(), reason="uwsgi is built from source: pip install uwsgi"
)


@installed
def test_harakiri_is_passed_on() -> None:
    """A call that says nothing ends a tenth before uWSGI would kill its worker."""
    with place() as here:
        here.write("app.py", APP)
        options = ["--http-socket", "127.0.0.1:0", "--harakiri", "40"]
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


@installed
def test_a_broker_in_the_master() -> None:
    """At the top of the app's module, where the model was: its process is started with a Python that is one."""
    with place() as here:
        here.write("app.py", IN_MASTER)
        with running(here, [*UWSGI, "--http-socket", "127.0.0.1:0", "--py-call-osafterfork"]) as server:
            assert server.ask(1)["pid"] != server.pid
            server.broker()
