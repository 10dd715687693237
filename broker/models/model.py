"""The interface of a loaded model, which session models and function models implement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from broker.models.examples import Examples
from broker.models.spec import ModelSpec
from worker_client.wire.errors import ModelNotFound
from worker_client.wire.signature import Signature

Run = Callable[..., Sequence[np.ndarray]]
"""One signature as a function of arrays.

Takes one array for each of `signature.inputs`, by position, and returns one for each of `signature.outputs`. It is the
hot path and checks nothing: the caller ensures dtypes and shapes. Several threads may call it concurrently; it runs on
the calling thread. Raises ModelFailed with the model's own message.

The arrays returned may be views of the arrays fed (a model that passes an input through), or of memory the model keeps:
use or copy them before the fed memory is reused, and never write to them. Where they are views of fed memory,
TensorFlow holds that memory until the first run of any model after they were dropped; a segment can be unmapped only
then. Only for Python models does the broker check that the answers have as many rows as were fed; a SavedModel may
declare free first dimensions and still return fewer or more.
"""

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True, slots=True)
class AdHocSignature:
    """A signature that was never exported. Its fetches in `operations` have no value. `compiled` is as in
    LoadedModel."""

    signature: Signature
    run: Run
    operations: tuple[str, ...]
    effects: str = ""
    """As in `LoadedModel.effects`."""
    compiled: str = ""


class LoadedModel(Protocol):
    """One version of one model, ready to run.

    `version` is 1 unless the source is a directory of numbered versions. `left_out` gives the reason for each signature
    that cannot be served. `default_signature` is always one of `signatures`.
    """

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def version(self) -> int: ...

    @property
    def signatures(self) -> Mapping[str, Signature]: ...

    @property
    def default_signature(self) -> str: ...

    @property
    def onednn(self) -> bool | None:
        """Whether TensorFlow may run it with oneDNN; None for a model without TensorFlow."""
        ...

    @property
    def intra_op_threads(self) -> int | None:
        """Threads that one op may use; 0 is TensorFlow's default, None means a model without TensorFlow."""
        ...

    @property
    def left_out(self) -> Mapping[str, str]: ...

    @property
    def effects(self) -> Mapping[str, str]:
        """What a run of each signature does besides computing ("writes variable 'counter'"); "" if nothing. A signature
        with effects is stateful: it runs only for calls, once for each call, and by itself."""
        ...

    @property
    def compiled(self) -> Mapping[str, str]:
        """The signatures that XLA compiles for each new shape of their inputs, each with the evidence."""
        ...

    @property
    def examples(self) -> Examples:
        """Inputs for warm-up; a signature without examples is warmed up with zeros."""
        ...

    def callable(self, signature_name: str) -> Run:
        """The function that runs this signature. Raises ModelNotFound if the model has none of this name."""
        ...

    def ad_hoc(self, name: str, feeds: Sequence[str], fetches: Sequence[str]) -> AdHocSignature:
        """Any tensors of the model's graph as a signature called `name`. Raises InvalidInput, and BrokerError if the
        signature has effects that the spec does not allow."""
        ...

    def interrupt(self) -> bool:
        """End the running calls, from another thread; the model cannot be used afterwards. False if they cannot be
        ended."""
        ...

    def close(self) -> None:
        """Release the model's resources. Idempotent; afterwards its callables raise ModelFailed."""
        ...


def why_not_uncalled(model: LoadedModel, signature_name: str) -> str:
    """Why this signature runs for its callers only; "" if it may also run for warm-up, measurement and examination."""
    if model.effects[signature_name]:
        return f"a run {model.effects[signature_name]}"
    return "warmup is false" if model.spec.warmup is False else ""


def default_of(signatures: Mapping[str, Signature]) -> str:
    """The signature for callers that name none: `serving_default`, or else the first by name."""
    return DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in signatures else min(signatures)


def no_such_signature(name: str, model: LoadedModel) -> ModelNotFound:
    text = (
        f"model {model.spec.name!r} has no signature {name!r}; it has {', '.join(sorted(model.signatures))}"
    )
    reason = model.left_out.get(name)
    return ModelNotFound(f"{text} ({name!r} was left out: {reason})" if reason else text)
