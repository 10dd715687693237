"""`Broker`: the broker in Python, as a separate process or around forked workers."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from broker import adopt
from broker.config.settings import START_SECONDS, Settings
from broker.control_plane.locks import note_at
from broker.counters.run_record import RunRecord
from broker.models.model import LoadedModel
from broker.models.setting_field import FLAG, IntegerCheck, listed, only
from broker.models.spec import ModelSpec
from broker.own_process import descriptors
from broker.process import load_watch
from broker.process.broker_process import BrokerProcess
from broker.process.fork_server import ForkServer
from broker.process.in_process import InProcess
from broker.server.server import Server
from worker_client.interpreter.face import face
from worker_client.ipc import own_broker
from worker_client.wire.address import socket_path
from worker_client.wire.errors import BrokerError, InvalidInput

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from broker.config.options import Options, StartOptions

_CHECK_SECONDS = 1.0
_WHAT_IS_ADOPTED = 'models of this process such as [adopt.keras("faces", model)]'
_RELOADERS = {"WERKZEUG_RUN_MAIN": "Flask's", "RUN_MAIN": "Django's"}
"""The environment variables that reloaders set in the process that they start."""
_STARTED_TWICE = (
    "{whose} reloader imports the app in two processes: start the broker only if {variable!r} is in "
    "os.environ, or run "
    "the server under `onesession run`"
)


class Broker:
    """Serves `models` to this machine's workers.

        with Broker(models={"digits": "models/digits"}, name="default"):
            ...                                       # a separate process, while the block runs

        Broker(models=...).run_workers(work, processes=4)   # this process serves its own forked workers

    `models` maps names to SavedModel directories, `module:function`, dicts of ModelSpec's fields or ModelSpecs. A
    value, or the `source` in such a dict, may also be a function, a Keras model or a session of this process, which is
    adopted: see below. `name` is a name or socket path, None for $BROKER_ADDRESS, else "default". `options` are those
    of Settings. With `supervise`, the broker's process is the child of a small process, which starts it again when it
    dies, while the workers' calls wait; otherwise these calls raise BrokerUnavailable. `start` fails if that process is
    not ready after `start_seconds`; 0 for no limit. With `adopted` models (see `broker.adopt`), the broker serves from
    this process, which goes on using them; children that are forked before or after the start may call it. Raises
    InvalidInput for invalid values; `start` and `run_workers` raise BrokerError if the broker cannot start.
    """

    def __init__(
        self,
        models: Mapping[str, Any] | Iterable[ModelSpec] = (),
        name: str | None = None,
        *,
        supervise: bool = True,
        start_seconds: float = START_SECONDS,
        adopted: Iterable[LoadedModel] = (),
        **options: Unpack[Options],
    ) -> None:
        address = os.fspath(socket_path(name))
        models, ours = adopt.ours(models) if isinstance(models, Mapping) else (models, [])
        known: dict[str, Any] = {"address": address, "start_seconds": start_seconds, **options}
        self.settings = Settings.of(ModelSpec.coerce_all(models), known)
        self.supervise = FLAG("supervise", supervise, self)
        self._adopted = (
            *ours,
            *listed(_WHAT_IS_ADOPTED, only(_WHAT_IS_ADOPTED, _is_model))("adopted", adopted, self),
        )
        self._process: BrokerProcess | InProcess | None = None
        self._starter = 0
        own_broker.announce(Path(self.address), self)

    @classmethod
    def from_config(
        cls,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        supervise: bool = True,
        **options: Unpack[StartOptions],
    ) -> Broker:
        """Serve the models of a configuration file. `name` and `options` override it, as on the command line.

        Raises InvalidInput, with a line for each problem in the file.
        """
        from broker.config.file import read

        file = read(path)
        said: dict[str, Any] = {**file.settings, **options}
        return cls(file.models, file.name if name is None else name, supervise=supervise, **said)

    @classmethod
    def from_session(
        cls,
        session: Any,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        *,
        model: str = "model",
        name: str | None = None,
        **options: Unpack[StartOptions],
    ) -> Broker:
        """Serve tensors of a session that another module owns, from this process. See `adopt.session`."""
        return cls(name=name, adopted=[adopt.session(model, session, inputs, outputs)], **options)

    @classmethod
    def from_function(
        cls,
        function: Callable[..., Any],
        inputs: adopt.Side | None = None,
        outputs: adopt.Side | None = None,
        *,
        model: str = "model",
        name: str | None = None,
        **options: Unpack[StartOptions],
    ) -> Broker:
        """Serve a Python callable from this process. See `adopt.function`."""
        return cls(name=name, adopted=[adopt.function(model, function, inputs, outputs)], **options)

    @classmethod
    def from_keras(
        cls, keras: Any, *, model: str = "model", name: str | None = None, **options: Unpack[StartOptions]
    ) -> Broker:
        """Serve a Keras model that this process made or trains. See `adopt.keras`."""
        return cls(name=name, adopted=[adopt.keras(model, keras)], **options)

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self._process is not None else "not started"
        return f"<Broker {self.address} {state}>"

    def __dir__(self) -> list[str]:
        return face(super().__dir__(), ())

    @property
    def address(self) -> str:
        """The address for `worker_client.connect`, in this process or any other."""
        return self.settings.address

    @property
    def pid(self) -> int | None:
        """The pid of the broker's process, which changes with each restart; None while no process runs."""
        broker_process = self._process
        if (
            isinstance(broker_process, BrokerProcess)
            and broker_process.supervised
            and broker_process.pid is not None
        ):
            note = note_at(socket_path(self.address))
            return None if note is None else note.pid
        return None if broker_process is None else broker_process.pid

    def start(self) -> Broker:
        """Start the broker's process; return when workers can attach. Returns this broker; keep a reference to it,
        because nothing else can stop the process."""
        if self._process is not None:
            raise BrokerError(f"this broker is already running, as pid {self.pid}")
        own_broker.start(Path(self.address))
        broker_process: BrokerProcess | InProcess
        if self._adopted:
            broker_process = InProcess(self.settings, self._adopted)
        else:
            broker_process = BrokerProcess(self.settings, self.supervise)
        try:
            broker_process.start(self.settings.start_seconds)
        except BrokerError as error:
            for variable, whose in _RELOADERS.items():
                if variable in os.environ and "already serves" in str(error):
                    again = _STARTED_TWICE.format(whose=whose, variable=variable)
                    raise BrokerError(f"{error}. {again}") from None
            raise
        self._process = broker_process
        self._starter = os.getpid()
        return self

    def stop(self) -> None:
        """Finish the accepted requests and end the broker's process. Idempotent."""
        broker_process, self._process = self._process, None
        if broker_process is not None:
            broker_process.stop()

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __del__(self) -> None:
        forgotten = getattr(self, "_process", None) is not None and self._starter == os.getpid()
        if forgotten and not sys.is_finalizing():  # the end of the program also ends the broker
            what = f"the broker at {self.address} is running, but no reference to it is left"
            warnings.warn(
                f"{what}: use `with Broker(...)`, or keep it and call stop()", ResourceWarning, 2, self
            )

    def run_workers(
        self,
        target: Callable[..., object],
        processes: int,
        args: tuple[Any, ...] = (),
        max_restarts: int = 10,
    ) -> int:
        """Fork `processes` workers that run `target(*args)`, and serve them from this process until all have finished.

        Call it before this process uses TensorFlow: it forks the workers first and loads the models afterwards. A
        worker finds its number in $BROKER_WORKER_INDEX and its broker with `worker_client.connect()`. A worker that
        dies (a signal, an exception, a status other than 0) is replaced. Returns the number of replacements; raises
        BrokerError if more than `max_restarts` would be needed.
        """
        if self._process is not None:
            raise BrokerError("run_workers serves from this process; leave the `with` block out")
        if not callable(target):
            raise InvalidInput(
                f"run_workers expects the function that each worker runs, got {target!r}; write "
                "run_workers(work, processes=4)"
            )
        IntegerCheck(0, 1 << 31)("processes", processes, self)
        descriptors.open_missing()  # or libraries could write their output into a segment that got number 1 or 2
        with contextlib.ExitStack() as stack:
            fork_server = ForkServer(self.address, target, args)
            stack.callback(fork_server.stop)
            failed = threading.Event()
            record = RunRecord()
            with load_watch.reported_loads(record, 0.0, None):
                server = Server(self.settings, failed.set, self._adopted, record=record)
            server.start()
            stack.callback(server.stop)
            stack.callback(fork_server.stop)  # workers end before their broker does
            return _supervise(fork_server, failed, processes, max_restarts)


def _is_model(value: Any) -> bool:
    return isinstance(getattr(value, "spec", None), ModelSpec)


def _supervise(fork_server: ForkServer, failed: threading.Event, processes: int, max_restarts: int) -> int:
    for index in range(processes):
        fork_server.start(index)
    running, restarts = processes, 0
    while running:
        while not fork_server.wait(_CHECK_SECONDS):
            if failed.is_set():
                raise BrokerError("the broker failed; see the log above")
        index, status = fork_server.next_exit()
        if status == 0:
            running -= 1
        elif restarts == max_restarts:
            raise BrokerError(
                f"worker {index} ended with status {status} after {restarts} replacements: giving up"
            )
        else:
            restarts += 1
            fork_server.start(index)
    return restarts
