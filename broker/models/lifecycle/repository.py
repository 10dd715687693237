"""All models that the broker serves, each signature under a small number: the model id of a slot."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from broker.models.errors import ModelLoadError
from broker.models.lifecycle import loading
from broker.models.lifecycle.ad_hoc import AdHocSignatures
from broker.models.lifecycle.entry import Entry, ad_hoc_entry
from broker.models.lifecycle.loading import load_model
from broker.models.lifecycle.served_model import ServedModel
from broker.models.lifecycle.version import Version, VersionState
from broker.models.model import LoadedModel, no_such_signature
from broker.models.python import function
from broker.models.rows.joining import Verdicts
from broker.models.spec import ModelSpec, check_distinct
from worker_client.wire.errors import ModelNotFound

__all__ = ["Entry", "Repository", "function", "load", "load_model"]

_log = logging.getLogger("onesession.models")


class Repository:
    """The models in service. `table` maps each number to its entry; a number is never reused.

    The loader changes it, the control thread reads it, the intake takes the table: all under `lock`.
    """

    def __init__(self, verdicts: Verdicts | None = None) -> None:
        self.verdicts = verdicts
        self.lock = threading.RLock()
        self.served: dict[str, ServedModel] = {}
        self._next_number = 1
        self._ad_hoc = AdHocSignatures()

    @property
    def models(self) -> Mapping[str, LoadedModel]:
        """The models for calls that name no version."""
        with self.lock:
            found = {name: served.default for name, served in self.served.items()}
            return {
                name: version.model
                for name, version in found.items()
                if version is not None and version.model is not None
            }

    @property
    def entries(self) -> list[Entry | None]:
        """The entries of all versions that can be called, after a None: in a new repository, entries[id] has this
        id."""
        with self.lock:
            versions = [version for served in self.served.values() for version in served.available]
            found = [entry for version in versions for entry in version.entries.values()]
            return [None, *sorted(found, key=lambda entry: entry.id)]

    def table(self) -> list[Entry | None]:
        """The entry of each number now. Numbers that follow share entries with the versions' own numbers."""
        with self.lock:
            table: list[Entry | None] = [None] * self._next_number
            for served in self.served.values():
                for number, entry in served.numbers():
                    table[number] = entry
            return table

    def new_number(self) -> int:
        with self.lock:
            number, self._next_number = self._next_number, self._next_number + 1
            return number

    def follow(self) -> None:
        """Update the numbers that follow, after versions were added or removed."""
        with self.lock:
            for served in self.served.values():
                served.follow(self.new_number)

    def entry(self, model: str, signature: str | None = None) -> Entry:
        """The entry of this model's signature, or of its default one. Raises ModelNotFound."""
        with self.lock:
            version = self._default(model)
            assert version.model is not None
            name = version.model.default_signature if signature is None else signature
            found = version.entries.get(name)
            if found is None:
                raise no_such_signature(name, version.model)
            return found

    def ad_hoc(
        self, model: str, feeds: tuple[str, ...], fetches: tuple[str, ...], worker: Hashable = None
    ) -> tuple[Entry, tuple[str, ...], bool]:
        """The entry that runs these tensors of the model's graph, which of the fetches are operations, and whether
        another entry was removed to make room.

        It is created once for each set of feeds and fetches, and kept for each `worker` that asked for it until
        `release`. Raises ModelNotFound, InvalidInput, Overloaded, BrokerError if a session may not run them.
        """
        with self.lock:
            version = self._default(model)
            assert version.model is not None
            found = self._ad_hoc.found(version, (feeds, fetches), worker)
            if found is not None:
                return *found, False
            versions = [each for served in self.served.values() for each in served.available]
            one_went = self._ad_hoc.make_room(versions, worker)
            made = ad_hoc_entry(self.new_number(), version.model, feeds, fetches, version.number)
            self._ad_hoc.add(version, (feeds, fetches), made, worker)
            return *made, one_went

    def release(self, worker: Hashable) -> None:
        """Release everything that is kept for this worker."""
        with self.lock:
            self._ad_hoc.release(worker)

    def _default(self, model: str) -> Version:
        served = self.served.get(model)
        if served is None:
            known = ", ".join(sorted(self.served)) or "none"
            raise ModelNotFound(f"the broker serves no model {model!r}; it serves {known}")
        if served.default is None:
            raise ModelNotFound(f"no version of model {model!r} can be called: {served.why_not()}")
        return served.default

    def describe(self) -> dict[str, Any]:
        """The models as plain values for the control plane: {name: {version, signatures, versions, ...}}."""
        with self.lock:
            return {name: served.describe() for name, served in self.served.items()}

    def close(self) -> None:
        """Close all models. No run may be under way."""
        for served in self.served.values():
            for version in served.versions:
                if version.model is not None and not version.abandoned:
                    version.model.close()

    def __repr__(self) -> str:
        return f"<Repository of {len(self.served)} models, {len(self.entries) - 1} signatures>"


def load(
    specs: Iterable[ModelSpec],
    *,
    adopted: Iterable[LoadedModel] = (),
    warm: bool = True,
    verdicts: Verdicts | None = None,
    set_aside: Mapping[str, str] = MappingProxyType({}),
    on_load_begin: Callable[[str], None] = lambda _model: None,
) -> Repository:
    """Load and warm up all models, including `adopted` ones, which are loaded already. `warm=False` skips the first
    runs: all signatures then count as heavy. `verdicts` has earlier results about the independence of rows.

    Of a model with numbered versions, the wanted ones are loaded; if one cannot be loaded, the next lower one is. A
    model without any version does not stop the others: the failure is logged, and the model is in state END with the
    cause; so are models that are `set_aside`, with their given causes. Raises ModelLoadError, which lists all models,
    if none can be loaded, and InvalidInput if two share a name.

    `on_load_begin` is called with the name of each model before it is loaded or warmed, and with "" at the end.
    """
    specs = list(specs)
    adopted = list(adopted)
    check_distinct([*specs, *[model.spec for model in adopted]])
    repository = Repository(verdicts)
    errors: list[ModelLoadError] = []
    for spec in specs:
        served = repository.served[spec.name] = ServedModel(spec)
        on_load_begin(spec.name)
        try:
            loading.load_first(served, set_aside.get(spec.name))
        except ModelLoadError as error:
            errors.append(error)
    try:
        if errors and len(errors) == len(specs) and not adopted:
            raise ModelLoadError.joined(errors)
        for failure in errors:
            _log.error("%s", failure)
        for model in adopted:
            served = repository.served[model.spec.name] = ServedModel(model.spec)
            served.adopted = True
            served.versions.append(Version(model.version, model.spec, model=model))
        for served in repository.served.values():
            on_load_begin(served.spec.name)
            for version in served.versions:
                if version.model is not None:
                    loading.warm_up(version, repository.new_number, warm, verdicts)
                    version.enter(VersionState.AVAILABLE)
        repository.follow()
        on_load_begin("")
    except BaseException:
        _close_quietly(repository)
        raise
    return repository


def _close_quietly(repository: Repository) -> None:
    with suppress(Exception):
        repository.close()
