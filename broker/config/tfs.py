"""TensorFlow Serving's `--model_config_file` and `--batching_parameters_file` as a configuration of ours.

Their fields stand in tensorflow_serving: config/model_server_config.proto,
sources/storage_path/file_system_storage_path_source.proto, servables/tensorflow/session_bundle_config.proto
(BatchingParameters). What has no counterpart here is told, not dropped in silence.
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
from broker.models.spec import ModelSpec
from worker_client.wire.errors import InvalidInput

_MICROSECOND = 1e-6
_BATCHING = "max_batch_size", "batch_timeout_micros", "allowed_batch_sizes", "max_enqueued_batches"
_NO_COUNTERPART = {
    "logging_config": "requests are not logged",
    "num_batch_threads": "the broker measures how many runs side by side pay (max_concurrency)",
    "thread_pool_name": "each model has runners of its own",
    "enable_large_batch_splitting": "larger requests are always split",
    "model_type": "it is deprecated there; all are TensorFlow's",
    "model_platform": "all are TensorFlow's",
}


@dataclass(slots=True)
class Imported:
    """`models` as tables of ModelSpec's fields; `notes` say what could not be taken over, and why."""

    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_toml(self) -> str:
        document = tomlkit.document()
        for note in self.notes:
            document.add(tomlkit.comment(note))
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
    """Raises InvalidInput, with the file and the line or the model."""
    imported = Imported()
    for settings in _configs(models, imported):
        _add(imported, models, settings)
    # There, nothing is batched without --enable_batching.
    shared: dict[str, Any] = {"batching": False} if batching is None else _batching(batching, imported)
    for name, settings in imported.models.items():
        settings.update(shared)
        ModelSpec.coerce(name, settings)
    return imported


def _configs(path: Path, imported: Imported) -> list[Message]:
    message = textproto.parse(_text(path), str(path))
    unknown = sorted(set(message) - {"model_config_list", "custom_model_config"})
    if unknown or "model_config_list" not in message:
        have = f"it has {', '.join(unknown)}" if unknown else "it has none"
        raise InvalidInput(f"{path}: expected a model_config_list, as --model_config_file takes it; {have}")
    if "custom_model_config" in message:
        imported.notes.append("custom_model_config was left out: it is a program's own")
    configs = [config for each in message["model_config_list"] for config in each.get("config", [])]
    if not all(isinstance(config, dict) for config in configs):
        raise InvalidInput(f"{path}: each config must be a message: config {{ name: ... base_path: ... }}")
    return configs


def _add(imported: Imported, path: Path, config: Message) -> None:
    name, base = _one(config, "name"), _one(config, "base_path")
    if not isinstance(name, str) or not isinstance(base, str):
        raise InvalidInput(f"{path}: a config has name {name!r} and base_path {base!r}; both must be texts")
    if name in imported.models:
        raise InvalidInput(f"{path}: two models are called {name!r}")
    settings: dict[str, Any] = {"source": base}
    policy = _one(config, "model_version_policy")
    if policy is not None:
        settings["versions"] = _policy(path, name, policy)
    labels = {_one(label, "key"): _one(label, "value") for label in config.get("version_labels", [])}
    if labels:
        settings["labels"] = labels
    known = {"name", "base_path", "model_version_policy", "version_labels"}
    _note_rest(imported, f"model {name!r}", config, known)
    imported.models[name] = settings


def _policy(path: Path, name: str, policy: Any) -> str | list[int]:
    if not isinstance(policy, dict) or len(policy) > 1:
        raise InvalidInput(
            f"{path}: model {name!r}: model_version_policy must be one of latest, all, specific"
        )
    if "all" in policy:
        return "all"
    if "specific" in policy:
        return [number for each in policy["specific"] for number in each.get("versions", [])]
    count = _one(policy["latest"][0], "num_versions") if "latest" in policy else 1
    return "latest" if count in (None, 0, 1) else f"latest:{count}"


def _batching(path: Path, imported: Imported) -> dict[str, Any]:
    message = textproto.parse(_text(path), str(path))
    # Each is in a wrapper message: max_batch_size { value: 128 }
    found = {
        key: [_one(v, "value") if isinstance(v, dict) else v for v in values]
        for key, values in message.items()
    }
    settings: dict[str, Any] = {}
    if "max_batch_size" in found:
        settings["max_batch_size"] = found["max_batch_size"][0]
    if "batch_timeout_micros" in found:
        settings["max_delay"] = float(found["batch_timeout_micros"][0]) * _MICROSECOND
    if "allowed_batch_sizes" in found:
        settings["allowed_batch_sizes"] = found["allowed_batch_sizes"]
    if "max_enqueued_batches" in found:
        rows = found["max_enqueued_batches"][0] * found.get("max_batch_size", [1000])[0]
        settings["max_queue_rows"] = rows
    if found.get("pad_variable_length_inputs", [False])[0]:
        settings["pad_variable_length"] = True
    _note_rest(imported, "batching", message, {*_BATCHING, "pad_variable_length_inputs"})
    return settings


def _note_rest(imported: Imported, what: str, message: Message, known: set[str]) -> None:
    for key in message:
        if key not in known:
            reason = _NO_COUNTERPART.get(key, "there is no such setting here")
            imported.notes.append(f"{what}: {key} was left out: {reason}")


def _one(message: Message, key: str) -> Any:
    """The last value counts, as in protocol buffers."""
    values = message.get(key, [])
    return values[-1] if values else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is no UTF-8 text: {error}") from None
