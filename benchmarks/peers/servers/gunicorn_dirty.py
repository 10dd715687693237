"""gunicorn's dirty arbiters: the model is in processes of gunicorn's own, which its workers ask over a Unix socket.

The callers here do what a gunicorn worker does: `DirtyClient.execute`, with the tensors as bytes, the quickest that
its protocol has for them. What HTTP adds to it is measured by `python -m benchmarks http`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.peers.other_system import OtherSystem
from benchmarks.peers.place import HOST, ServerPlace
from benchmarks.peers.servers.way import Call, way

_APP = f"{__name__}:DirtyModel"
_PLACE = "ONESESSION_PEER_PLACE"


def serve(place: ServerPlace) -> None:
    from gunicorn.app.base import BaseApplication

    class DirtyApplication(BaseApplication):
        def load_config(self) -> None:
            for name, value in _settings(place).items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            return _http

    os.environ[_PLACE] = place.to_json()
    DirtyApplication().run()


def _settings(place: ServerPlace) -> dict[str, Any]:
    def post_worker_init(_worker: Any) -> None:
        """The arbiter names its socket in the environment of the workers: for the callers."""
        made = Path(place.socket + ".new")
        made.write_text(os.environ["GUNICORN_DIRTY_SOCKET"])
        made.rename(place.socket)

    return {
        "bind": f"{HOST}:{place.ports[0]}",
        "workers": 1,
        "dirty_apps": [_APP],
        "dirty_workers": 1,
        "dirty_graceful_timeout": 2,
        "graceful_timeout": 2,
        "control_socket_disable": True,
        "loglevel": "warning",
        "proc_name": Path(place.directory).name,  # an arbiter ends others of the same name
        "post_worker_init": post_worker_init,
    }


class DirtyModel:
    """A `gunicorn.dirty.DirtyApp` by its methods: this module is also imported where gunicorn is not installed."""

    def init(self) -> None:
        self._place = ServerPlace.from_json(os.environ[_PLACE])
        self._run = self._place.callable()

    def __call__(self, _action: str, raw: bytes) -> bytes:
        return self._run(self._place.rows(raw)).tobytes()

    def close(self) -> None:
        pass


def _http(_environ: Any, start_response: Any) -> list[bytes]:
    """gunicorn needs an app, although no client calls it here."""
    start_response("204 No Content", [])
    return []


def preload() -> None:
    import gunicorn.dirty.client  # noqa: F401


@contextmanager
def connect(place: ServerPlace) -> Iterator[Call]:
    from gunicorn.dirty.client import DirtyClient

    client = DirtyClient(Path(place.socket).read_text())
    try:
        yield lambda x: place.answers(client.execute(_APP, "predict", x.tobytes()))
    finally:
        client.close()


PEER = OtherSystem(
    "gunicorn-dirty",
    "gunicorn's dirty arbiter",
    (way("gunicorn_dirty", "dirty arbiter", connect),),
    requirements=("gunicorn==27.0.1",),
)
