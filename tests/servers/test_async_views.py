"""Async views under a threaded WSGI server: Django runs each request in an event loop of its own, on its thread."""

from __future__ import annotations

import os

import pytest

from broker.control_plane.query import ask
from tests.brokers import wait_until
from tests.servers.gunicorns import gunicorn
from tests.servers.running import Traffic

pytest.importorskip("django")

APP = """
import asyncio, os
import django.conf
import django.core.wsgi
import django.http
import django.urls
import numpy as np
from worker_client import aio

django.conf.settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="-", LOGGING_CONFIG=None)
client = aio.connect()
tell = client.model("tell")


async def view(request):
    row = int(request.GET["row"])
    x = np.full((1, 4), row, np.float32)
    answer, again = await asyncio.gather(
        *[model.predict({"x": x, "row": np.array([row])}) for model in (tell, client.model("tell"))]
    )
    assert (answer["y"] == again["y"]).all()
    return django.http.JsonResponse({"pid": os.getpid(), "y": answer["y"].tolist()})


urlpatterns = [django.urls.path("tell", view)]
app = django.core.wsgi.get_wsgi_application()
"""


@pytest.mark.parametrize("preload", [True, False], ids=["preload", "no-preload"])
def test_django_on_gunicorns_threads(preload: bool) -> None:
    """Every answer is right, many loops at a time; a worker has attached once, whichever of them called first."""
    options = ["--worker-class", "gthread", "--threads", "6", *(["--preload"] if preload else [])]
    with gunicorn(*options, app=APP) as server, Traffic(server.ask, threads=12) as traffic:
        wait_until(lambda: traffic.failures or len(traffic.pids) == 2, "answers of both workers")
        traffic.wait_for(400)
        (address,) = server.place.sockets()
        attached = [worker["pid"] for worker in ask(os.fspath(address), "status")["status"]["workers"]]
        assert sorted(attached) == sorted(traffic.pids)
        traffic.check()
        assert "Traceback" not in server.log()
