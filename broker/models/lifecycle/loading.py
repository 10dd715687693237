"""Makes versions ready: finds those of a source, loads and warms them up, and reports why it fails.

All slow work is done here, without holding a lock.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from broker.host.usage import resident_bytes
from broker.models.errors import ModelLoadError
from broker.models.files.reading import reading, unreadable
from broker.models.lifecycle.entry import entry_of
from broker.models.lifecycle.served_model import ServedModel
from broker.models.lifecycle.version import Version, VersionState
from broker.models.model import LoadedModel
from broker.models.python import folder as python_folder
from broker.models.python import function
from broker.models.rows.joining import Verdicts
from broker.models.sources import lite
from broker.models.spec import ModelSpec
from broker.models.tf import library_pages
from broker.models.version_policy import Policy, fingerprint, numbered
from broker.own_process.interpreter import freeze_gc

_log = logging.getLogger("onesession.models")


def load_model(spec: ModelSpec) -> LoadedModel:
    """The model at `spec.source`. TensorFlow is imported for the first model that needs it."""
    return _load_function(spec)(spec)


def _load_function(spec: ModelSpec) -> Callable[[ModelSpec], LoadedModel]:
    if spec.is_function:
        return function.load
    if python_folder.holds_python(spec.source):
        return python_folder.load
    check_characters(spec)
    if lite.holds_lite(spec):
        return lite.load
    ours = "tensorflow" not in sys.modules  # then this process is the broker's own
    try:
        from broker.models.sources import session
    except ImportError as error:
        raise ModelLoadError.of(
            spec.name,
            spec.source,
            f"TensorFlow cannot be imported ({error})",
            'Install it beside the broker: pip install "onesession[tensorflow]"',
        ) from error
    if ours:
        freeze_gc()
        library_pages.drop()  # before the first model: loading and warming up bring back the pages that calls need
    return session.load


def check_characters(spec: ModelSpec) -> None:
    """Raise ModelLoadError for an existing path that TensorFlow cannot open."""
    if not os.path.exists(spec.source):
        return
    try:
        os.fspath(spec.source).encode()
    except UnicodeEncodeError:
        raise ModelLoadError.of(
            spec.name,
            spec.source,
            "its path is not UTF-8, which TensorFlow requires",
            "Rename the folder, or serve the model through a symbolic link",
        ) from None


def load_first(served: ServedModel, why_not: str | None = None) -> None:
    """Load the wanted versions at the broker's start: if one cannot be loaded, the next lower one. With `why_not`, load
    none.

    Raises ModelLoadError, with the reason for the highest version, if none can be loaded.
    """
    there = find(served)
    wanted = wanted_of(served, list(there))
    if why_not is not None:
        _set_aside(served, there[max(wanted or there)] if there else Version(1, served.spec), why_not)
        return
    if there and not wanted:
        raise nothing_wanted(served, list(there))
    spare = sorted((number for number in there if number not in wanted), reverse=True)
    first: ModelLoadError | None = None
    pending = sorted(wanted, reverse=True)
    while pending:
        version = there[pending.pop(0)]
        served.versions.insert(0, version)
        try:
            load(version)
        except ModelLoadError as error:
            first = first or error
            version.enter(VersionState.END, str(error))
            version.failed = True
            lower = [number for number in spare if number < version.number]
            if lower and not served.policy.numbers:
                pending.append(lower[0])
                spare = lower[1:]
    if first is not None:
        if not any(version.model is not None for version in served.versions):
            raise first
        _log.error("%s; serving another version instead", first)


def _set_aside(served: ServedModel, version: Version, cause: str) -> None:
    """Show the version that would be called in state END."""
    version.enter(VersionState.END, cause)
    version.failed = version.set_aside = True
    served.versions.append(version)


def find(served: ServedModel) -> dict[int, Version]:
    """The versions on disk. A source without numbered versions has one, whose number counts its loads."""
    spec = served.spec
    folder = numbered(spec.source)
    if folder:
        return {
            number: Version(number, replace(spec, source=os.fspath(path)), fingerprint(path), True)
            for number, path in folder.items()
        }
    number = 1 + max((version.number for version in served.versions if not version.is_numbered), default=0)
    return {number: Version(number, spec, fingerprint(watched_path(spec)))}


def watched_path(spec: ModelSpec) -> Path:
    """The path whose change means a new model. It does not exist for a function, whose files are unknown."""
    return Path("/nonexistent") if spec.is_function else Path(spec.source).expanduser()


def wanted_of(served: ServedModel, there: list[int], policy: Policy | None = None) -> list[int]:
    """The versions that the policy selects, and those that labels name."""
    policy = policy or served.policy
    if numbered(served.spec.source) is None:
        return there  # a source without numbers has no other versions
    return sorted({*policy.choose(there), *[n for n in served.wanted_labels.values() if n in there]})


def nothing_wanted(served: ServedModel, there: list[int]) -> ModelLoadError:
    policy, spec = served.policy, served.spec
    return ModelLoadError.of(
        spec.name,
        spec.source,
        f"none of its versions {', '.join(map(str, sorted(there)))} is one of {list(policy.numbers)}",
        "Set versions to some that exist, or to 'latest'",
    )


def load(version: Version) -> None:
    """Load the version's model. Raises ModelLoadError for every kind of failure."""
    spec = version.spec
    version.enter(VersionState.LOADING)
    with reading(spec):
        load_function = _load_function(spec)
    before = resident_bytes()
    try:
        version.model = load_function(spec)
    except ModelLoadError:
        raise
    except PermissionError as error:
        raise unreadable(spec, error) from error
    except Exception as error:
        raise ModelLoadError.of(
            spec.name, spec.source, f"{type(error).__name__}: {error}", "See the log above"
        ) from error
    version.memory_bytes = max(0, resident_bytes() - before)


def warm_up(
    version: Version, new_number: Callable[[], int], warm: bool = True, verdicts: Verdicts | None = None
) -> None:
    """Run every signature for the first time, and assign its number."""
    model = version.model
    assert model is not None
    before = resident_bytes()
    version.entries = {
        name: entry_of(new_number(), model, name, version.number, warm, verdicts) for name in model.signatures
    }
    for name, entry in version.entries.items():
        if entry.stays_heavy:
            _log.warning("model %r, signature %r is %s", model.spec.name, name, entry.stays_heavy)
    if version.memory_bytes is not None:
        version.memory_bytes += max(0, resident_bytes() - before)


def taken_over(spec: ModelSpec, before: ModelSpec | None) -> ModelSpec:
    """`spec`, with settings that it leaves open taken from the version before it."""
    if before is None:
        return spec
    names = ["intra_op_threads", "max_concurrency", "caller_thread"]
    if spec.max_batch_size is None and set(before.allowed_batch_sizes) <= set(spec.allowed_batch_sizes):
        names += ["max_batch_size", "allowed_batch_sizes"]
    found = {name: getattr(before, name) for name in names if getattr(spec, name) in (None, ())}
    if spec.allowed_batch_sizes and "max_batch_size" in names:
        found["allowed_batch_sizes"] = before.allowed_batch_sizes or spec.allowed_batch_sizes
    return replace(spec, **found)


def import_again(spec: ModelSpec) -> Callable[[], None]:
    """Make the next load import a function's module again. Returns a function that restores the old module."""
    name = spec.source.partition(":")[0]
    before = sys.modules.pop(name, None)

    def put_back() -> None:
        if before is not None:
            sys.modules[name] = before

    return put_back
