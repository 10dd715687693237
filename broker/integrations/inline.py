"""Models in the process of the app that calls them, without a broker: what `worker_client.testing` runs them with.

The broker's own loaders open them, and its own checks and callables run them. There is no batching, no tuning and no
reload, and nothing here needs Linux.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from broker.adopt import ours
from broker.config.model_argument import spec_of
from broker.data_plane import strings
from broker.models.lifecycle.repository import Repository, load
from broker.models.model import LoadedModel, Run
from broker.models.python import folder
from broker.models.spec import ModelSpec
from broker.own_process.float_mode import flush_denormals
from worker_client.wire.errors import BrokerError, ModelFailed, StaleSignature
from worker_client.wire.signature import Signature


class _Run(NamedTuple):
    run: Run
    signature: Signature
    flushes: bool
    """Whether denormals count as zero, as in all that TensorFlow runs."""


class InlineEngine:
    """The Engine of `worker_client.in_process.engine`, on a repository."""

    def __init__(self, specs: Sequence[ModelSpec], adopted: Sequence[LoadedModel] = ()) -> None:
        """Raises ModelLoadError, InvalidInput."""
        _import_tensorflow_for(specs)
        self._repository: Repository = load(specs, adopted=adopted, warm=False)
        self._runs: dict[int, _Run] = {}

    @property
    def survives_fork(self) -> bool:
        return all(model.onednn is None for model in self._repository.models.values())

    def describe(self) -> dict[str, Any]:
        return self._repository.describe()

    def run(self, number: int, feeds: Sequence[Any], deadline_ns: int) -> Sequence[Any]:
        found = self._runs.get(number) or self._find(number)
        flush_denormals(found.flushes)
        try:
            return strings.encoded(found.run(*feeds), found.signature)
        except BrokerError:
            raise
        except Exception as error:
            raise ModelFailed(f"{type(error).__name__}: {error}") from error

    def _find(self, number: int) -> _Run:
        table = self._repository.table()
        entry = table[number] if number < len(table) else None
        if entry is None:
            raise StaleSignature(f"no signature has number {number}")
        run = strings.run_of(entry.run, entry.signature)
        found = self._runs[number] = _Run(run, entry.signature, entry.model.onednn is not None)
        return found

    def ad_hoc(self, model: str, feeds: Sequence[str], fetches: Sequence[str]) -> dict[str, Any]:
        entry, operations, _ = self._repository.ad_hoc(model, tuple(feeds), tuple(fetches))
        fields = {"id": entry.id, "stateful": entry.stateful, "operations": operations}
        return {**entry.signature.to_message(), **fields, "max_run_seconds": entry.max_run_seconds}


def from_texts(texts: Sequence[str], directory: str) -> InlineEngine:
    """Models as `onesession serve` takes them, [NAME=]SOURCE, or configuration files (.toml). Relative paths count from
    `directory`. Raises ModelLoadError, InvalidInput."""
    specs: list[ModelSpec] = []
    for text in texts:
        name, equals, source = text.rpartition("=")
        path = _from(directory, source)
        if not equals and path.endswith(".toml"):
            from broker.config.file import read

            specs += read(path).models
        else:
            specs.append(spec_of(f"{name}{equals}{path}"))
    return InlineEngine(specs)


def from_models(models: Mapping[str, Any]) -> InlineEngine:
    """Models as `broker.Broker` takes them, those of this process included. Raises ModelLoadError, InvalidInput."""
    loaded, adopted = ours(models)
    return InlineEngine(ModelSpec.coerce_all(loaded), adopted)


def _from(directory: str, source: str) -> str:
    """The path seen from there; a function's name or a handle as it is."""
    path = Path(directory, source).expanduser()
    return os.fspath(path) if path.exists() else source


def _import_tensorflow_for(specs: Sequence[ModelSpec]) -> None:
    """Import TensorFlow before the loaders do. Where they import it themselves, they take the process for a broker's
    and freeze the app's objects. If it is missing, the loaders say so."""
    if any(not (spec.is_function or folder.holds_python(spec.source)) for spec in specs):
        with contextlib.suppress(ImportError):
            importlib.import_module("broker.models.tf.runtime")
