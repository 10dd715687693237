"""A signature of a loaded model version, with the number by which requests name it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from broker.models.model import LoadedModel, Run, why_not_uncalled
from broker.models.rows.independence import structure
from broker.models.rows.joining import Decision, Verdicts, decide, decide_ad_hoc
from broker.models.warmup import Cost, measure
from worker_client.wire.signature import Signature

_LEAST_LIMIT_SECONDS = 60.0
_LIMIT_UNMEASURED_SECONDS = 600.0
_TIMES_MEASURED = 100


@dataclass(slots=True, eq=False)
class Entry:
    """One signature of one model version as the runners see it. Only `keep_apart` changes it."""

    id: int
    model: LoadedModel
    signature: Signature
    run: Run
    cost: Cost
    apart: str
    """Why its requests are neither joined nor split; "" if they may be."""
    examined: bool
    """Whether that was found by running it, and not declared."""
    max_batch_size: int
    """Rows of one run; 1 if requests may not be joined."""
    max_concurrency: int
    """Maximum concurrent runs of the model if it is heavy."""
    version: int = 1
    stateful: str = ""
    """What a run does besides computing; "" if nothing. With effects, only callers' requests run: one after the other,
    each by itself and once."""
    session: bool = False
    """Whether a session asked for it: it is not a signature of the model."""
    stays_heavy: str = ""
    """Why it compiles code while it serves, so that it never runs on the intake thread; empty if it does not."""
    remember: Callable[[str], None] | None = None
    """Records, for the next start, why requests must be kept apart."""

    @property
    def batchable(self) -> bool:
        """True if requests may be joined and split now."""
        return not self.apart

    def keep_apart(self, reason: str) -> None:
        """Stop joining and splitting its requests: its answers have shown that its rows depend on each other."""
        self.apart = reason
        if self.remember is not None:
            self.remember(reason)

    @property
    def always_heavy(self) -> str:
        """Why it never runs on the intake thread, in a few words; "" if it may."""
        if self.model.spec.inline is False:
            return "inline = false"
        return "stateful" if self.stateful else "compiles" if self.stays_heavy else ""

    @property
    def max_run_seconds(self) -> float:
        """The limit of a run, from the spec or else from the measured cost; 0 for no limit."""
        said, cost = self.model.spec.max_run_seconds, self.cost
        if said is not None:
            return float(said)
        if cost.p50_us is None:
            return _LIMIT_UNMEASURED_SECONDS
        rows, run_us = max(cost.batches, default=(1, cost.p50_us))
        largest_us = max(run_us, run_us / rows * self.max_batch_size)
        return max(_LEAST_LIMIT_SECONDS, _TIMES_MEASURED * largest_us / 1e6)

    def __repr__(self) -> str:
        kind = "light" if self.cost.light else "heavy"
        return f"<Entry {self.id} {self.model.spec.name}/{self.signature.name} {kind}>"


def entry_of(
    number: int,
    model: LoadedModel,
    name: str,
    version: int,
    warm: bool = True,
    verdicts: Verdicts | None = None,
) -> Entry:
    """The entry of this signature, examined, warmed up and measured; without `warm` it counts as heavy."""
    signature = model.signatures[name]
    run = model.callable(name)
    decision = decide(model, name, run, warm, verdicts)
    cost = Cost(None, False, "not measured")
    if reason := why_not_uncalled(model, name):
        cost = Cost(None, False, f"run for its callers only: {reason}")
    elif warm:
        sizes = model.spec.allowed_batch_sizes if not decision.apart else ()
        rows = model.spec.batch_limit if not decision.apart else 1
        cost = measure(
            run,
            signature,
            rows,
            sizes=sizes,
            examples=model.examples.get(name, ()),
            apart=bool(decision.apart),
            larger=not model.compiled.get(name),
        )
    whose = model.effects[name], model.compiled.get(name, "")
    made = _entry(number, model, signature, run, cost, decision, version, *whose)
    if decision.examined and verdicts is not None:
        made.remember = lambda reason: verdicts.save(model, name, reason)
    return made


def ad_hoc_entry(
    number: int, model: LoadedModel, feeds: tuple[str, ...], fetches: tuple[str, ...], version: int
) -> tuple[Entry, tuple[str, ...]]:
    """The entry that runs these tensors of the model's graph, and which of the fetches are operations.

    It is heavy until its runs show otherwise: the first compiles the graph. Raises InvalidInput.
    """
    made = model.ad_hoc(f"session:{number}", feeds, fetches)
    reason = "operations are run once for each call" if made.operations else structure(made.signature)
    decision = decide_ad_hoc(model, made.effects, reason)
    cost = Cost(None, False, None)
    whose = made.effects, made.compiled
    entry = _entry(number, model, made.signature, made.run, cost, decision, version, *whose)
    return replace(entry, session=True), made.operations


def _entry(
    number: int,
    model: LoadedModel,
    signature: Signature,
    run: Run,
    cost: Cost,
    decision: Decision,
    version: int,
    stateful: str,
    compiled: str,
) -> Entry:
    max_rows = 1 if decision.apart else model.spec.batch_limit
    concurrency = model.spec.max_concurrency or 1
    stays_heavy = ""
    if compiled:
        allowed = () if decision.apart else model.spec.allowed_batch_sizes
        stays_heavy = compiles_while_serving(signature, cost, compiled, allowed)
    if stays_heavy:
        cost = replace(cost, light=False, note="; ".join(filter(None, [cost.note, stays_heavy])))
    return Entry(
        id=number,
        model=model,
        signature=signature,
        run=run,
        cost=cost,
        apart=decision.apart,
        examined=decision.examined,
        max_batch_size=max_rows,
        max_concurrency=concurrency,
        version=version,
        stateful=stateful,
        stays_heavy=stays_heavy,
    )


def compiles_while_serving(signature: Signature, cost: Cost, compiled: str, allowed: Sequence[int]) -> str:
    """Why requests may have shapes for which XLA has no code yet, and the remedy; empty if warm-up compiled all of
    them.

    A compilation takes tenths of a second, during which the intake thread would take no requests.
    """
    free = [spec for spec in signature.inputs if spec.shape is None or None in spec.shape]
    if not free and cost.p50_us is not None:
        return ""
    in_rows_only = signature.batchable and all(None not in (spec.shape or ())[1:] for spec in free)
    warm = {rows for rows, _ in cost.batches} | ({1} if cost.p50_us is not None else set())
    if allowed and in_rows_only and warm >= set(allowed):
        return ""
    text = f"heavy: {compiled} for each new shape"
    if in_rows_only and not allowed:
        text += ", here each new number of rows; with the setting allowed_batch_sizes all shapes are compiled at load"
    return text
