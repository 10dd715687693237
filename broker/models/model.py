"""A model that is loaded and can be run, whatever is behind it: the contract of session and function."""

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

Takes one array for each of `signature.inputs`, by position, and returns one for each of `signature.outputs`.
It is the hot path and checks nothing: dtypes and shapes are the caller's duty. It may be called from several
threads at once and runs on the thread that calls it. Raises ModelFailed with the model's own message.

The arrays returned may be views of the arrays fed (a model that passes an input through), or of memory the model
keeps: use or copy them before the fed memory is reused, and never write to them. Where they are views of fed memory,
TensorFlow holds that memory until the first run of any model after they were dropped; a segment can be unmapped only
then. Only for Python models is it checked that the answers have as many rows as were fed; a SavedModel may declare
free first dimensions and still return fewer or more.
"""

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True, slots=True)
class AdHocSignature:
    """A signature that was never exported. Of its fetches, `operations` have no value. `compiled` as in LoadedModel."""

    signature: Signature
    run: Run
    operations: tuple[str, ...]
    effects: str = ""
    """As in `LoadedModel.effects`."""
    compiled: str = ""


class LoadedModel(Protocol):
    """One version of one model, ready to run.

    `version` is 1 unless the source is a directory of numbered versions. `left_out` tells for each signature
    that cannot be served the reason why. `default_signature` is always one of `signatures`.
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
        """Whether TensorFlow may run it with oneDNN; None stands for a model without TensorFlow."""
        ...

    @property
    def intra_op_threads(self) -> int | None:
        """Threads that one op may use; 0 is TensorFlow's default, None stands for a model without TensorFlow."""
        ...

    @property
    def left_out(self) -> Mapping[str, str]: ...

    @property
    def effects(self) -> Mapping[str, str]:
        """For each signature what a run does besides computing ("writes variable 'counter'"), "" if nothing. One that
        does something is stateful: it is run when it is called, as often as it is called, and by itself."""
        ...

    @property
    def compiled(self) -> Mapping[str, str]:
        """The signatures that XLA compiles for each new shape of their inputs, with what tells so."""
        ...

    @property
    def examples(self) -> Examples:
        """Inputs to warm it up with; none for a signature means zeros."""
        ...

    def callable(self, signature_name: str) -> Run:
        """The function that runs this signature. Raises ModelNotFound if the model has none of this name."""
        ...

    def ad_hoc(self, name: str, feeds: Sequence[str], fetches: Sequence[str]) -> AdHocSignature:
        """Any tensors of the model's graph as a signature called `name`. Raises InvalidInput, BrokerError if it would
        do more than compute and the spec does not allow that."""
        ...

    def interrupt(self) -> bool:
        """End what runs, from another thread; afterwards the model is of no use. False if nothing can end it."""
        ...

    def close(self) -> None:
        """Give back what the model holds. Idempotent; afterwards its callables raise ModelFailed."""
        ...


def why_not_uncalled(model: LoadedModel, signature_name: str) -> str:
    """Why this signature is run for nobody but its callers; "" if it may be, to warm up, to measure and to examine."""
    if model.effects[signature_name]:
        return f"a run {model.effects[signature_name]}"
    return "warmup is false" if model.spec.warmup is False else ""


def default_of(signatures: Mapping[str, Signature]) -> str:
    """The signature a caller means who names none: `serving_default`, else the first by name."""
    return DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in signatures else min(signatures)


def no_such_signature(name: str, model: LoadedModel) -> ModelNotFound:
    text = (
        f"model {model.spec.name!r} has no signature {name!r}; it has {', '.join(sorted(model.signatures))}"
    )
    reason = model.left_out.get(name)
    return ModelNotFound(f"{text} ({name!r} was left out: {reason})" if reason else text)
