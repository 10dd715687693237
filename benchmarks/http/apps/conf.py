"""gunicorn's configuration of every arm: each worker answers once before it takes requests."""

import time

from benchmarks.http.apps import web

preload_app = True
timeout = 120  # while eight workers import TensorFlow at the same time
graceful_timeout = 5
# gunicorn would make a socket for its own tool in the user's home directory.
control_socket_disable = True


def pre_fork(server, worker):
    web.AppWorker.forked_ns = time.monotonic_ns()


def post_worker_init(worker):
    web.answer_first()
