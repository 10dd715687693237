"""Converts TensorFlow Serving's `--model_config_file` and `--batching_parameters_file` to a broker's configuration.

Their fields are defined in tensorflow_serving: config/model_server_config.proto,
sources/storage_path/file_system_storage_path_source.proto, servables/tensorflow/session_bundle_config.proto
(BatchingParameters). Fields without a counterpart here are reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit

from broker.config import textproto
from broker.config.show import plain
from broker.config.textproto import Message
from broker.models.spec import MAX_DELAY_SECONDS, ModelSpec
from worker_client.wire.errors import InvalidInput

_MICROSECOND = 1e-6
POLL_SECONDS = 1
"""How often TensorFlow Serving checks for new versions, unless its command line sets another interval."""
_DEFAULT_BATCH = 1000
"""TensorFlow Serving's max_batch_size where the file has none (basic_batch_scheduler.h)."""
_WRAPPED = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "max_execution_batch_size")
_BATCHING = (*_WRAPPED, "allowed_batch_sizes", "pad_variable_length_inputs", "enable_large_batch_splitting")
_NO_COUNTERPART = {
    "logging_config": "requests are not logged",
    "num_batch_threads": "the broker measures how many concurrent runs pay off (max_concurrency)",
    "thread_pool_name": "each model has runners of its own",
    "model_type": "it is deprecated in TensorFlow Serving; all models are TensorFlow's",
    "model_platform": "all models are TensorFlow's",
}


@dataclass(slots=True)
class Imported:
    """`models` as tables of ModelSpec's fields; `notes` say which fields were left out, and why."""

    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_toml(self) -> str:
        document = tomlkit.document()
        for note in self.notes:
            document.add(tomlkit.comment(note))
        poll = tomlkit.item(POLL_SECONDS)
        poll.comment("--file_system_poll_wait_seconds of TensorFlow Serving")
        document.add("poll_seconds", poll)
        document["models"] = tomlkit.table(is_super_table=True)
        for name, settings in self.models.items():
            table = tomlkit.table()
            for key, value in settings.items():
                if isinstance(value, Mapping):
                    inline = tomlkit.inline_table()
                    inline.update(plain(value))
                    table.add(key, inline)
                else:
                    table.add(key, plain(value))
            document["models"][name] = table
        return tomlkit.dumps(document)


def read(models: Path, batching: Path | None = None) -> Imported:
    """Convert the files. Raises InvalidInput, with the file and the line or the model."""
    imported = Imported()
    for settings in _configs(models, imported):
        _add(imported, models, settings)
    # TensorFlow Serving batches nothing without --enable_batching.
    shared: dict[str, Any] = {"batching": False} if batching is None else _batching(batching, imported)
    files = str(models) if batching is None else f"{models} with {batching}"
    for name, settings in imported.models.items():
        settings.update(shared)
        try:
            ModelSpec.coerce(name, settings)
        except InvalidInput as error:
            raise InvalidInput(f"{files}: {error}") from None
    return imported


def _configs(path: Path, imported: Imported) -> list[Message]:
    message = textproto.parse(_text(path), str(path))
    unknown = sorted(set(message) - {"model_config_list", "custom_model_config"})
    if unknown or "model_config_list" not in message:
        have = ", ".join(sorted(message)) or "nothing"
        raise InvalidInput(
            f"{path}: expected a model_config_list, as --model_config_file takes it; it has {have}"
        )
    if "custom_model_config" in message:
        imported.notes.append(
            "custom_model_config was left out: only the program that defines it can read it"
        )
    lists = _messages(message, "model_config_list", str(path))
    return [config for each in lists for config in _messages(each, "config", str(path))]


def _add(imported: Imported, path: Path, config: Message) -> None:
    name, base = _one(config, "name"), _one(config, "base_path")
    if not isinstance(name, str) or not isinstance(base, str):
        raise InvalidInput(f"{path}: a config has name {name!r} and base_path {base!r}; both must be strings")
    if name in imported.models:
        raise InvalidInput(f"{path}: two models are called {name!r}")
    where = f"{path}: model {name!r}"
    settings: dict[str, Any] = {"source": base}
    if policies := _messages(config, "model_version_policy", where):
        settings["versions"] = _policy(policies[-1], f"{where}: model_version_policy")
    if labels := _messages(config, "version_labels", where):
        settings["labels"] = {_one(label, "key"): _one(label, "value") for label in labels}
    known = {"name", "base_path", "model_version_policy", "version_labels"}
    _note_rest(imported, f"model {name!r}", config, known)
    imported.models[name] = settings


def _policy(policy: Message, where: str) -> str | list[int]:
    if len(policy) > 1 or not set(policy) <= {"latest", "all", "specific"}:
        raise InvalidInput(f"{where} must be one of latest, all, specific; it has {', '.join(policy)}")
    if "all" in policy:
        return "all"
    if "specific" in policy:
        return [n for each in _messages(policy, "specific", where) for n in each.get("versions", [])]
    counts = [_one(each, "num_versions") for each in _messages(policy, "latest", where)]
    return f"latest:{counts[-1]}" if counts and counts[-1] not in (None, 0, 1) else "latest"


def _batching(path: Path, imported: Imported) -> dict[str, Any]:
    message = textproto.parse(_text(path), str(path))
    numbers = {key: _wrapped(message, key, int, str(path)) for key in _WRAPPED if key in message}
    settings: dict[str, Any] = {"batching": "on"}  # without a check of the rows, as TensorFlow Serving does
    if _wrapped(message, "enable_large_batch_splitting", bool, str(path)):
        # TensorFlow Serving refuses requests of more than max_batch_size rows. The broker splits them into runs.
        rows = numbers.get("max_execution_batch_size", numbers.get("max_batch_size"))
    else:
        rows = numbers.get("max_batch_size")
        imported.notes.append(
            "batching: a request of more than max_batch_size rows is split, and not refused"
        )
    if rows is not None:
        settings["max_batch_size"] = rows
    if "batch_timeout_micros" in numbers:
        seconds = numbers["batch_timeout_micros"] * _MICROSECOND
        settings["max_delay"] = min(seconds, MAX_DELAY_SECONDS)
        if seconds > MAX_DELAY_SECONDS:
            imported.notes.append(
                f"batching: batch_timeout_micros is {seconds:g} s; max_delay is at most "
                f"{MAX_DELAY_SECONDS:g} s"
            )
    if sizes := message.get("allowed_batch_sizes"):
        settings["allowed_batch_sizes"] = sizes
    if "max_enqueued_batches" in numbers:
        settings["max_queue_rows"] = numbers["max_enqueued_batches"] * (rows or _DEFAULT_BATCH)
    if _wrapped(message, "pad_variable_length_inputs", bool, str(path)):
        settings["pad_variable_length"] = True
    _note_rest(imported, "batching", message, set(_BATCHING))
    return settings


def _note_rest(imported: Imported, what: str, message: Message, known: set[str]) -> None:
    for key in message:
        if key not in known:
            reason = _NO_COUNTERPART.get(key, "there is no such setting here")
            imported.notes.append(f"{what}: {key} was left out: {reason}")


def _one(message: Message, key: str) -> Any:
    """The last value of a field, which is the valid one in protocol buffers."""
    values = message.get(key, [])
    return values[-1] if values else None


def _messages(message: Message, key: str, where: str) -> list[Message]:
    """The values of a field, which must be messages. Raises InvalidInput."""
    for value in message.get(key, []):
        if not isinstance(value, dict):
            raise InvalidInput(f"{where}: {key} must be a message, {key} {{ ... }}, got {value!r}")
    return message.get(key, [])


def _wrapped(message: Message, key: str, kind: type, where: str) -> Any:
    """The value of a field that may be in a wrapper, `max_batch_size { value: 128 }`; the kind's zero without one."""
    value = _one(message, key)
    if isinstance(value, dict):
        value = _one(value, "value")
    if value is None:
        return kind()
    if type(value) is not kind:
        wanted = "true or false" if kind is bool else "an integer"
        raise InvalidInput(f"{where}: {key} must be {wanted}, got {value!r}")
    return value


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text: {error}") from None
