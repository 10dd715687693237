"""The calls of one small request on both sides.

Broker and worker are threads of this process here, each with a recorder: a thread's calls are the same ones wherever
the other side is. Times would not be, so none are taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np

import worker_client
from benchmarks.call_path.recorder import Called, Recorder
from broker.config.settings import Settings
from broker.models.spec import ModelSpec
from broker.server.server import Server

_TIMEOUT_S = 30.0
_WARM_UP = 20
POST = "Semaphore.release"


@dataclass(frozen=True)
class CallPath:
    """The calls of one request: in the worker, in the broker until the worker has its answer, and there after that."""

    worker: list[Called]
    broker: list[Called]
    broker_afterwards: list[Called]


def record(source: str, wait: str, directory: Path) -> CallPath:
    """The calls of `predict(x)`, x float32 [1, 128], to the model at `source`; both sides wait as `wait` says."""
    address = str(directory / "profile.sock")
    server = Server(Settings(models=(ModelSpec("model", source),), address=address, wait=wait))
    intake = _IntakeRecorder(server)
    server.start()
    try:
        with worker_client.connect(address, wait=wait) as client:
            worker = _record_worker(client.model("model").predict, intake)
    finally:
        server.stop()
    return CallPath(worker, *_until_answer(intake.request))


def _record_worker(predict: Callable[[np.ndarray], np.ndarray], intake: _IntakeRecorder) -> list[Called]:
    x = np.zeros((1, 128), np.float32)
    for _ in range(_WARM_UP):
        predict(x)
    intake.await_silence()
    recorder = Recorder()
    recorder.start()
    predict(x)
    recorder.stop()
    intake.await_silence()
    return recorder.calls


class _IntakeRecorder:
    """Records the intake thread between one time that it has nothing to do and the next."""

    def __init__(self, server: Server) -> None:
        self.request: list[Called] = []
        self._recorder = Recorder()
        self._recorder.on_python_call = self._look
        self._idle_depth = 0
        self._idle = Event()
        run = server.intake.run

        def recorded() -> None:
            self._recorder.start()
            run()

        server.intake.run = recorded  # type: ignore[method-assign]

    def await_silence(self) -> None:
        """Return when what was sent before has been done."""
        if not self._idle.wait(_TIMEOUT_S):
            raise TimeoutError("the intake does not come to rest")

    def _look(self, call: Called) -> None:
        """Called before each Python call is recorded. While idle, the intake thread polls repeatedly."""
        if call.name.endswith("._idle"):
            if any(called.name == POST for called in self._recorder.calls):
                self.request = self._recorder.calls
            self._recorder.calls = []
            self._idle_depth = call.depth
            self._idle.set()
        elif call.depth <= self._idle_depth and self._idle.is_set():
            self._recorder.calls = []  # what idling called
            self._idle.clear()


def _until_answer(calls: list[Called]) -> tuple[list[Called], list[Called]]:
    """Cut where the worker's semaphore is posted."""
    posted = next(number for number, call in enumerate(calls) if call.name == POST) + 1
    return calls[:posted], calls[posted:]
