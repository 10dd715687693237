"""The same model in each worker's own process, as an app has it without a broker: what the broker is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from broker.bench.arms import Named
from broker.bench.load.loops import Caller
from broker.host.processors import cores
from broker.models.lifecycle.loading import load_model
from broker.models.model import LoadedModel, Run
from broker.models.python.folder import holds_python
from broker.models.spec import ModelSpec
from worker_client.wire.errors import InvalidInput
from worker_client.wire.signature import Signature


class InProcessCall(Enum):
    """How an app calls a model of its own."""

    SESSION = "session"
    """`Session.run`, with TensorFlow's default settings."""
    SIGNATURE = "signature"
    """`tf.saved_model.load(path).signatures[name]`, arrays in, arrays out."""
    BARE = "bare"
    """The callable that the broker itself runs: the session's on the caller's thread, or the Python function."""


_LABELS = {
    InProcessCall.SESSION: "in process: Session.run",
    InProcessCall.SIGNATURE: "in process: signature",
    InProcessCall.BARE: "in process: bare callable",
}


@dataclass(frozen=True, slots=True)
class InProcessArm:
    """`signature` may be None for the model's default one."""

    spec: ModelSpec
    call: InProcessCall
    signature: str | None = None

    @property
    def name(self) -> str:
        return self.call.value

    @property
    def label(self) -> str:
        return _LABELS[self.call]

    def prepare(self) -> None:
        """TensorFlow once for all workers, as a preloading server has it: it starts no session, so a fork is safe."""
        if not self.spec.is_function and not holds_python(self.spec.source):
            from broker.models.sources import session  # noqa: F401

    @contextmanager
    def open(self) -> Iterator[LoadedSignature]:
        """Raises BrokerError if the model cannot be loaded, or cannot be called this way."""
        spec = self.spec
        if self.call is InProcessCall.SESSION and spec.intra_op_threads is None:
            spec = replace(
                spec, intra_op_threads=cores(), caller_thread=None
            )  # which is TensorFlow's default
        model = load_model(spec)
        try:
            yield LoadedSignature(model, self.signature or model.default_signature, _run(self, model))
        finally:
            model.close()


def _run(arm: InProcessArm, model: LoadedModel) -> Run:
    name = arm.signature or model.default_signature
    run = model.callable(name)  # which knows whether there is such a signature
    if arm.call is InProcessCall.BARE:
        return run
    plain_run = getattr(model, "plain_run", None)
    if plain_run is None:
        raise InvalidInput(
            f"model {arm.spec.name!r} is a Python function, which has no session of its own; "
            "compare it with --compare bare"
        )
    if arm.call is InProcessCall.SESSION:
        found: Run = plain_run(name)
        return found
    from broker.bench.arms import eager

    return eager.signature_run(arm.spec, model.signatures[name])


class LoadedSignature:
    """One signature of a model of this process."""

    def __init__(self, model: LoadedModel, name: str, run: Run) -> None:
        signature = model.signatures[name]
        self.about: Mapping[str, Any] = {"signature": signature, "left_out": dict(model.left_out)}
        self._signature: Signature = signature
        self._run = run

    def prepared(self, inputs: Named) -> Any:
        return [inputs[spec.name] for spec in self._signature.inputs]

    def named(self, answer: Any) -> Named:
        return {spec.name: array for spec, array in zip(self._signature.outputs, answer)}

    def caller(self) -> Caller:
        run = self._run
        return Caller(lambda arrays: run(*arrays))
