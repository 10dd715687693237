"""From a source to a version that is ready: find the versions, load one, warm it up. Says why it cannot be.

Anything that takes long is done here, with no lock held.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from broker.host.interpreter import freeze_gc
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

_log = logging.getLogger("onesession.models")


def load_model(spec: ModelSpec) -> LoadedModel:
    """The model behind `spec.source`. TensorFlow is imported when the first one is asked for that needs it."""
    return _load_function(spec)(spec)


def _load_function(spec: ModelSpec) -> Callable[[ModelSpec], LoadedModel]:
    if spec.is_function:
        return function.load
    if python_folder.holds_python(spec.source):
        return python_folder.load
    check_characters(spec)
    if lite.holds_lite(spec):
        return lite.load
    ours = "tensorflow" not in sys.modules  # so this is a broker's own process
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
        library_pages.drop()  # before the first model: what loading and warming up use is there again when calls come
    return session.load


def check_characters(spec: ModelSpec) -> None:
    """Raises ModelLoadError for a path that is there and that TensorFlow cannot be given."""
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
    """Load the versions that the policy wants, at the broker's start: for each that cannot be, the next lower. None at
    all if there is a reason not to.

    Raises ModelLoadError, with the reason for the highest, if none can be.
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
    """The version that would be called stands in END."""
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
    """Whose change means another model. Of a function: nothing, as it may be anywhere."""
    return Path("/nonexistent") if spec.is_function else Path(spec.source).expanduser()


def wanted_of(served: ServedModel, there: list[int], policy: Policy | None = None) -> list[int]:
    """Those that the policy wants, and those that labels stand for."""
    policy = policy or served.policy
    if numbered(served.spec.source) is None:
        return there  # a source without numbers is what it is
    return sorted({*policy.choose(there), *[n for n in served.wanted_labels.values() if n in there]})


def nothing_wanted(served: ServedModel, there: list[int]) -> ModelLoadError:
    policy, spec = served.policy, served.spec
    return ModelLoadError.of(
        spec.name,
        spec.source,
        f"none of its versions {', '.join(map(str, sorted(there)))} is one of {list(policy.numbers)}",
        "Set versions to some that are there, or to 'latest'",
    )


def load(version: Version) -> None:
    """Make its model. Raises ModelLoadError, whatever went wrong."""
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
    """Run every signature for the first time, and give it a number."""
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
    """`spec` with the settings that were found for the version before it, where it has none of its own."""
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
    """Have the module of a function be imported anew by the next load. Returns what puts the old one back."""
    name = spec.source.partition(":")[0]
    before = sys.modules.pop(name, None)

    def put_back() -> None:
        if before is not None:
            sys.modules[name] = before

    return put_back
