"""A signature of a loaded model version, with its number: what a request names and a runner runs."""

from __future__ import annotations

from dataclasses import dataclass

from broker.models.model import LoadedModel, Run, why_not_uncalled
from broker.models.warmup import Cost, measure
from worker_client.wire.signature import Signature


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One signature of one model version as the runners see it."""

    id: int
    model: LoadedModel
    signature: Signature
    run: Run
    cost: Cost
    batchable: bool
    """True if requests may be joined: the signature allows it, `batching` is on and it is not stateful."""
    max_batch_size: int
    """Rows of one run; 1 if requests may not be joined."""
    max_concurrency: int
    """Runs of the model side by side, where it is heavy."""
    version: int = 1
    stateful: str = ""
    """What a run does besides computing, "" if nothing. Its requests run one after the other, each by itself and once;
    none but a caller's."""

    def __repr__(self) -> str:
        kind = "light" if self.cost.light else "heavy"
        return f"<Entry {self.id} {self.model.spec.name}/{self.signature.name} {kind}>"


def entry_of(number: int, model: LoadedModel, name: str, version: int, warm: bool = True) -> Entry:
    """The entry of this signature, warmed up and measured; without `warm` it counts as heavy."""
    signature = model.signatures[name]
    run = model.callable(name)
    stateful = model.effects[name]
    batchable = model.spec.batching and signature.batchable and not stateful
    max_rows = model.spec.batch_limit if batchable else 1
    cost = Cost(None, False, "not measured")
    if reason := why_not_uncalled(model, name):
        cost = Cost(None, False, f"never run uncalled: {reason}")
    elif warm:
        sizes = model.spec.allowed_batch_sizes if batchable else ()
        cost = measure(run, signature, max_rows, sizes=sizes, examples=model.examples.get(name, ()))
    return _entry(number, model, signature, run, cost, batchable, version, stateful)


def ad_hoc_entry(
    number: int, model: LoadedModel, feeds: tuple[str, ...], fetches: tuple[str, ...], version: int
) -> tuple[Entry, tuple[str, ...]]:
    """The entry that runs these tensors of the model's graph, and which of the fetches are operations.

    It is heavy until its runs show otherwise: the first compiles the graph. Raises InvalidInput.
    """
    made = model.ad_hoc(f"session:{number}", feeds, fetches)
    batchable = model.spec.batching and made.signature.batchable and not made.operations and not made.effects
    cost = Cost(None, False, None)
    entry = _entry(number, model, made.signature, made.run, cost, batchable, version, made.effects)
    return entry, made.operations


def _entry(
    number: int,
    model: LoadedModel,
    signature: Signature,
    run: Run,
    cost: Cost,
    batchable: bool,
    version: int,
    stateful: str,
) -> Entry:
    max_rows = model.spec.batch_limit if batchable else 1
    concurrency = model.spec.max_concurrency or 1
    return Entry(number, model, signature, run, cost, batchable, max_rows, concurrency, version, stateful)
