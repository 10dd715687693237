"""Every model the broker serves, each signature under a small number: what a slot's model id points at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from broker.models import function
from broker.models.errors import ModelLoadError
from broker.models.model import LoadedModel, Run, no_such_signature
from broker.models.spec import ModelSpec, check_distinct
from broker.models.warmup import Cost, measure
from worker_client.wire.errors import ModelNotFound, Overloaded
from worker_client.wire.signature import Signature

MAX_AD_HOC = 1000
"""Sets of feeds and fetches that sessions may ask for: each is kept as long as its model."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One signature of one model version as the runners see it."""

    id: int
    model: LoadedModel
    signature: Signature
    run: Run
    cost: Cost
    batchable: bool
    """True if requests may be joined: the signature allows it and `batching` is on."""
    max_batch_size: int
    """Rows of one run; 1 if requests may not be joined."""
    max_concurrency: int
    """Runs of the model side by side, where it is heavy."""

    def __repr__(self) -> str:
        kind = "light" if self.cost.light else "heavy"
        return f"<Entry {self.id} {self.model.spec.name}/{self.signature.name} {kind}>"


class Repository:
    """The loaded models. `entries[id]` is the hot path's look-up; ids are dense from 1, entries[0] None."""

    def __init__(self, models: Mapping[str, LoadedModel], entries: list[Entry | None]) -> None:
        self.models = models
        self.entries = entries
        self._by_name = {(e.model.spec.name, e.signature.name): e for e in entries if e is not None}
        self._ad_hoc: dict[tuple[str, tuple[str, ...], tuple[str, ...]], tuple[Entry, tuple[str, ...]]] = {}

    def entry(self, model: str, signature: str | None = None) -> Entry:
        """The entry of this model's signature, or of its default one. Raises ModelNotFound."""
        loaded = self.models.get(model)
        if loaded is None:
            known = ", ".join(sorted(self.models)) or "none"
            raise ModelNotFound(f"the broker serves no model {model!r}; it serves {known}")
        name = loaded.default_signature if signature is None else signature
        found = self._by_name.get((model, name))
        if found is None:
            raise no_such_signature(name, loaded)
        return found

    def ad_hoc(
        self, model: str, feeds: tuple[str, ...], fetches: tuple[str, ...]
    ) -> tuple[Entry, tuple[str, ...]]:
        """The entry that runs these tensors of the model's graph, and which of the fetches are operations.

        Made once for each set of feeds and fetches, of any worker. Raises ModelNotFound, InvalidInput, Overloaded.
        """
        loaded = self.entry(model).model
        key = model, feeds, fetches
        found = self._ad_hoc.get(key)
        if found is None:
            if len(self._ad_hoc) >= MAX_AD_HOC:
                raise Overloaded(f"sessions have asked for {MAX_AD_HOC} different sets of feeds and fetches")
            name = f"session:{len(self._ad_hoc) + 1}"
            made = loaded.ad_hoc(name, feeds, fetches)
            batchable = loaded.spec.batching and made.signature.batchable and not made.operations
            cost = Cost(
                None, False, None
            )  # heavy until its runs show otherwise: the first compiles the graph
            entry = _new_entry(len(self.entries), loaded, made.signature, made.run, cost, batchable)
            self.entries.append(entry)
            found = self._ad_hoc[key] = entry, made.operations
        return found

    def describe(self) -> dict[str, Any]:
        """The models as plain values for the control plane: {name: {version, signatures, ...}}."""
        return {name: self._describe(model) for name, model in self.models.items()}

    def _describe(self, model: LoadedModel) -> dict[str, Any]:
        spec = model.spec
        default = self.entry(spec.name)
        return {
            "name": spec.name,
            "source": spec.source,
            "version": model.version,
            "default_signature": model.default_signature,
            "max_batch_size": spec.batch_limit,
            "intra_op_threads": model.intra_op_threads,
            "max_concurrency": default.max_concurrency,
            "caller_thread": spec.caller_thread is not False,
            "timeout": spec.timeout,
            "light": default.cost.light,
            "p50_us": default.cost.p50_us,
            "signatures": [_describe_entry(self.entry(spec.name, name)) for name in model.signatures],
            "left_out": dict(model.left_out),
        }

    def close(self) -> None:
        """Close every model. No run may be under way."""
        for model in self.models.values():
            model.close()

    def __repr__(self) -> str:
        return f"<Repository of {len(self.models)} models, {len(self.entries) - 1} signatures>"


def _describe_entry(entry: Entry) -> dict[str, Any]:
    return {
        **entry.signature.to_message(),
        "id": entry.id,
        "batchable": entry.batchable,
        "light": entry.cost.light,
        "p50_us": entry.cost.p50_us,
        "note": entry.cost.note,
    }


def load(specs: Iterable[ModelSpec], *, adopted: Iterable[LoadedModel] = (), warm: bool = True) -> Repository:
    """Load and warm every model, those included that are `adopted` as they are. `warm=False` skips the first runs: all
    signatures then count as heavy.

    Raises ModelLoadError that tells every model that could not be loaded; those that could are closed again.
    Raises InvalidInput if two models share a name.
    """
    specs = list(specs)
    adopted = list(adopted)
    check_distinct([*specs, *[model.spec for model in adopted]])
    models: dict[str, LoadedModel] = {}
    errors: list[ModelLoadError] = []
    for spec in specs:
        try:
            models[spec.name] = load_model(spec)
        except ModelLoadError as error:
            errors.append(error)
    if errors:
        _close_quietly(models)
        raise ModelLoadError.joined(errors)
    models.update({model.spec.name: model for model in adopted})
    try:
        return Repository(models, _entries(models, warm))
    except BaseException:
        _close_quietly(models)
        raise


def load_model(spec: ModelSpec) -> LoadedModel:
    """The model behind `spec.source`. TensorFlow is imported when the first SavedModel is asked for."""
    if spec.is_function:
        return function.load(spec)
    try:
        from broker.models import session
    except ImportError as error:
        raise ModelLoadError.of(
            spec.name,
            spec.source,
            f"TensorFlow cannot be imported ({error})",
            'Install it beside the broker: pip install "onesession[tensorflow]"',
        ) from error
    return session.load(spec)


def _entries(models: Mapping[str, LoadedModel], warm: bool) -> list[Entry | None]:
    entries: list[Entry | None] = [None]
    for model in models.values():
        for name in model.signatures:
            entries.append(_entry(len(entries), model, name, warm))
    return entries


def _entry(number: int, model: LoadedModel, name: str, warm: bool) -> Entry:
    signature = model.signatures[name]
    run = model.callable(name)
    batchable = model.spec.batching and signature.batchable
    max_rows = model.spec.batch_limit if batchable else 1
    cost = measure(run, signature, max_rows) if warm else Cost(None, False, "not measured")
    return _new_entry(number, model, signature, run, cost, batchable)


def _new_entry(
    number: int, model: LoadedModel, signature: Signature, run: Run, cost: Cost, batchable: bool
) -> Entry:
    max_rows = model.spec.batch_limit if batchable else 1
    return Entry(number, model, signature, run, cost, batchable, max_rows, model.spec.max_concurrency or 1)


def _close_quietly(models: Mapping[str, LoadedModel]) -> None:
    for model in models.values():
        with suppress(Exception):
            model.close()
