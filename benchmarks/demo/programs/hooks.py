"""gunicorn's configuration in the demo: reports to the demo where it listens, and when each worker has first answered.

Each event is one JSON datagram to the socket $DEMO_INBOX. Apps need none of this.
"""

import json
import os
import socket
from time import monotonic_ns

# gunicorn would make a socket for its own tool in the user's home directory.
control_socket_disable = True


def when_ready(server):
    _tell(event="listening", pid=os.getpid(), address=server.LISTENERS[0].sock.getsockname())


def pre_fork(server, worker):
    worker.forked_ns = monotonic_ns()


def post_request(worker, request, environ, response):
    forked_ns, worker.forked_ns = worker.forked_ns, None
    if forked_ns is not None:
        _tell(event="answered", pid=os.getpid(), seconds=(monotonic_ns() - forked_ns) / 1e9)


def _tell(**event):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(json.dumps(event).encode(), os.environ["DEMO_INBOX"])
