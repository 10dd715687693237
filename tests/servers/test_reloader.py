"""Development servers with a reloader, which import the app in two processes: a `Broker` in it is started twice."""

from __future__ import annotations

import pytest

from tests.servers.running import place, running

BROKER = 'Broker({"tell": "tests.process.models:tell"}, name="test")'

FLASK = f"""
from broker import Broker
from flask import Flask

app = Flask(__name__)
broker = {BROKER}
broker.start()
"""

DJANGO = f"""
from broker import Broker
from django.apps import AppConfig


class Shop(AppConfig):
    name = "shop"

    def ready(self):
        self.broker = {BROKER}
        self.broker.start()
"""
MANAGE = """
from django.conf import settings
from django.core.management import execute_from_command_line

settings.configure(DEBUG=True, INSTALLED_APPS=["shop.Shop"], SECRET_KEY="-", ROOT_URLCONF="shop")
execute_from_command_line()
"""


def test_flasks_reloader_is_named() -> None:
    """The second start says why one is there, and what to do instead of stopping it."""
    pytest.importorskip("flask")
    with place() as here:
        here.write("app.py", FLASK)
        with running(here, ["flask", "--app", "app", "run", "--debug", "--port", "0"]) as server:
            server.wait_for_log("Flask's reloader imports the app in two processes")


def test_djangos_reloader_is_named() -> None:
    """It runs `AppConfig.ready` in both of its processes."""
    pytest.importorskip("django")
    with place() as here:
        here.write("shop.py", DJANGO)
        here.write("manage.py", MANAGE)
        with running(here, ["python", "manage.py", "runserver", "127.0.0.1:0"]) as server:
            server.wait_for_log("Django's reloader imports the app in two processes")
