"""The same with the broker's two lines."""

import os

from benchmarks.http.apps.conf import (
    control_socket_disable,
    graceful_timeout,
    post_worker_init,
    pre_fork,
    preload_app,
    timeout,
)
from broker.integrations import gunicorn

__all__ = [
    "control_socket_disable",
    "graceful_timeout",
    "post_worker_init",
    "pre_fork",
    "preload_app",
    "timeout",
]

gunicorn.serve(globals(), models={"mlp": os.environ["HTTP_MODEL"]})
