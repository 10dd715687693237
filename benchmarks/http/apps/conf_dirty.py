"""The same with dirty arbiters, $HTTP_DIRTY_WORKERS processes."""

import os
import time

from gunicorn.dirty import DirtyError

from benchmarks.http.apps import web
from benchmarks.http.apps.conf import control_socket_disable, graceful_timeout, pre_fork, preload_app, timeout

__all__ = ["control_socket_disable", "graceful_timeout", "pre_fork", "preload_app", "timeout"]

START_SECONDS = 60.0

dirty_apps = ["benchmarks.http.apps.dirty:Mlp"]
dirty_workers = int(os.environ["HTTP_DIRTY_WORKERS"])
dirty_graceful_timeout = 2


def post_worker_init(worker):
    """gunicorn forks its workers without waiting for its dirty ones."""
    limit = time.monotonic() + START_SECONDS
    while True:
        try:
            return web.answer_first()
        except DirtyError:
            if time.monotonic() >= limit:
                raise
            time.sleep(0.01)
