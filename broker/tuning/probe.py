"""The process that loads models and times them; a new one is started for each value of oneDNN.

Each command is a JSON line on stdin, each answer a JSON line on stdout; the first line is {"onednn": whether it is on}:

    {"do": "open", "stand": 3, "spec": {...}}        -> {"batchable", "row_bytes", "run_us", "what": which signature}
    {"do": "measure", "stand": 3, "rows": 8, ...}    -> {"p50_us", "rows_per_s", "seconds"}
    {"do": "close"}                                  -> {}              releases all stands
     a failed command                                 -> {"error": why, "lasting": whether it will fail again,
                                                         "unloadable": whether it cannot even be loaded}

It ends immediately when stdin ends: its parent has closed it, or is gone.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import IO, Any

from broker.models.errors import ModelLoadError
from broker.models.model import LoadedModel, why_not_uncalled
from broker.models.rows.joining import decide
from broker.models.spec import ModelSpec
from broker.models.warmup import FREE_SIZES, runs_with_zeros, zeros
from broker.tuning.measurement import MeasuredSession
from broker.tuning.verdicts import RememberedVerdicts
from worker_client.system.clock import perf_counter
from worker_client.wire.errors import BrokerError
from worker_client.wire.signature import Signature

SLOW_SECONDS = 0.2

Message = dict[str, Any]


class NotRunnable(BrokerError):
    """The model's default signature does not run on zeros, or must not run."""


class Probe:
    """The open models, each in one session with one number of intra-op threads."""

    def __init__(self) -> None:
        self._stands: dict[int, tuple[MeasuredSession, LoadedModel]] = {}
        self._decided: dict[tuple[str, str], bool] = {}

    def answer(self, message: Message) -> Message:
        """Raises BrokerError if the model cannot be loaded or run."""
        handlers: dict[str, Callable[[Message], Message]] = {
            "open": self._open,
            "measure": self._measure,
            "close": self._close,
        }
        return handlers[message["do"]](message)

    def _open(self, message: Message) -> Message:
        from broker.models.sources import session

        spec = ModelSpec(**message["spec"])
        # Opened for the pool, because only then the session has its own pool.
        model = session.load(replace(spec, caller_thread=False))
        signature, free, run_us = _measurable(model)
        places = {
            False: model.callable(signature.name),
            True: model.callable_on(signature.name, caller_thread=True),
        }
        self._stands[message["stand"]] = MeasuredSession(places, signature, free), model
        row_bytes = sum(feed.nbytes for feed in zeros(signature, 1, free))
        return {
            "batchable": self._joined(model, signature),
            "row_bytes": row_bytes,
            "run_us": run_us,
            "what": _sizes_text(signature, free),
        }

    def _joined(self, model: LoadedModel, signature: Signature) -> bool:
        """Whether its requests will be joined; otherwise there are no batches to measure."""
        if not signature.batchable:
            return False
        name, verdicts = signature.name, RememberedVerdicts()
        if (name, model.spec.source) not in self._decided:
            found = decide(model, name, model.callable(name), warm=True, verdicts=verdicts)
            self._decided[name, model.spec.source] = not found.apart
        return self._decided[name, model.spec.source]

    def _measure(self, message: Message) -> Message:
        stand, _ = self._stands[message["stand"]]
        settings = {key: value for key, value in message.items() if key not in ("do", "stand")}
        return asdict(stand.measure(**settings))

    def _close(self, message: Message) -> Message:
        while self._stands:
            _, (stand, model) = self._stands.popitem()
            stand.close()
            model.close()
            del stand, model
        gc.collect()  # a graph has reference cycles, and the next model needs the memory
        return {}


def _measurable(model: LoadedModel) -> tuple[Signature, int, float]:
    """The default signature, the size for its free dimensions, and the approximate time of a run. Raises
    NotRunnable."""
    name = model.default_signature
    if why := why_not_uncalled(model, name):
        raise NotRunnable(f"signature {name} is run for its callers only: {why}")
    signature, run = model.signatures[name], model.callable(name)
    reason: str | None = None
    for free in FREE_SIZES:
        begun = perf_counter()
        reason = runs_with_zeros(run, signature, free)
        taken = perf_counter() - begun
        if reason is not None:
            continue
        if taken > SLOW_SECONDS:  # the run is slow, or it only was slow because it was the first
            begun = perf_counter()
            runs_with_zeros(run, signature, free)
            taken = perf_counter() - begun
        return signature, free, taken * 1e6
    raise NotRunnable(f"signature {name}: {reason}")


def _sizes_text(signature: Signature, free: int) -> str:
    sizes = [size for spec in signature.inputs for size in (spec.shape or ())[signature.batchable :]]
    return f"{signature}, free dimensions as {free}" if None in sizes else str(signature)


# --- the process ---


def main() -> int:
    answers = _private_stdout()
    try:
        from broker.models.tf import runtime  # before there is a second thread
    except ImportError as error:
        _write(answers, {"error": f"TensorFlow cannot be imported ({error})"})
        return 1
    _write(answers, {"onednn": runtime.onednn_enabled()})
    commands: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(commands,), name="onesession-commands", daemon=True).start()
    probe = Probe()
    while True:
        message = commands.get()
        try:
            answer = probe.answer(message)
        except Exception as error:
            answer = {
                "error": str(error) or type(error).__name__,
                "lasting": isinstance(error, NotRunnable),
                "unloadable": isinstance(error, ModelLoadError),
            }
        _write(answers, answer)


def _private_stdout() -> IO[str]:
    """The pipe to the parent. Output of libraries goes to stderr instead."""
    private = os.dup(1)
    os.dup2(2, 1)
    return open(private, "w", encoding="utf-8")


def _read(commands: queue.SimpleQueue[Message]) -> None:
    for line in sys.stdin:
        commands.put(json.loads(line))
    os._exit(0)  # an exception would have to wait for a run's C code


def _write(answers: IO[str], message: Message) -> None:
    try:
        answers.write(json.dumps(message) + "\n")
        answers.flush()
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
