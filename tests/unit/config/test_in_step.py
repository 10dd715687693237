"""Fields of Settings and ModelSpec, keys of the configuration file, options of the command line: all are in step."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from broker.cli import main
from broker.cli.model_settings import SETTINGS, with_settings
from broker.cli.options import OF_COMMANDS
from broker.config.file import BROKER_KEYS, INTERNAL, MODEL_KEYS, NAME, read
from broker.config.settings import Settings
from broker.config.show import shown
from broker.models.spec import ModelSpec
from broker.tuning import config_file

PYTHON_ONLY = ("wait",)
"""For benchmarks."""

OF_SETTINGS: dict[str, Any] = {
    "slots": 3,
    "max_slots": 11,
    "region_bytes": 8192,
    "max_channel_bytes": 1 << 27,
    "max_total_bytes": 1 << 29,
    "drain_seconds": 1.5,
    "start_seconds": 90.0,
    "wait": "block",
    "tune": "remembered",
    "tune_seconds": 2.5,
    "onednn": "off",
    "visible_devices": "0,1",
    "allow_uid": (1, 2),
    "allow_gid": (3,),
    "allow_sessions": True,
    "poll_seconds": 0.5,
    "idle_seconds": 60.5,
    "metrics_port": 9095,
    "metrics_host": "::1",
    "metrics_socket": "/tmp/metrics.sock",
    "log_level": "debug",
    "log_format": "json",
}
OF_MODELS: dict[str, Any] = {
    "source": "/models/digits",
    "max_batch_size": 16,
    "batching": "off",
    "max_delay": "auto",
    "allowed_batch_sizes": (4, 16),
    "pad_variable_length": True,
    "pad_value": -1.5,
    "intra_op_threads": 2,
    "max_concurrency": 3,
    "caller_thread": False,
    "inline": False,
    "max_queue_rows": 7,
    "max_queue_bytes": 8,
    "timeout": 0.25,
    "tags": ("serve", "gpu"),
    "inputs": ("x=input:0",),
    "outputs": ("y=output:0",),
    "imports": ("tensorflow_text",),
    "op_libraries": ("/lib/ops.so",),
    "warmup": "/models/digits.npz",
    "inter_op_threads": 4,
    "xla": True,
    "gpu_memory_growth": False,
    "gpu_memory_fraction": 0.5,
    "session_config": "log_device_placement: true",
    "versions": (1, 3),
    "labels": {"stable": 1, "canary": 3},
    "unload_first": True,
    "max_run_seconds": 5.0,
    "session_effects": True,
}
"""For each setting a value other than its default."""


def public(kind: type) -> list[str]:
    return [each.name for each in fields(kind) if each.name not in ("models", "address", "name", *INTERNAL)]


def test_every_setting_has_a_value_here() -> None:
    """Every setting has a value here, so that the tests below cover new ones."""
    assert sorted(OF_SETTINGS) == sorted(public(Settings))
    assert sorted(OF_MODELS) == sorted(public(ModelSpec))
    settings, spec = Settings(models=(), **OF_SETTINGS), ModelSpec("m", **OF_MODELS)
    assert [
        name for name in OF_SETTINGS if getattr(settings, name) == getattr(Settings(models=()), name)
    ] == []
    assert [name for name in OF_MODELS if getattr(spec, name) == getattr(ModelSpec("m", "s"), name)] == []


def test_every_setting_is_a_key_of_the_file() -> None:
    """The keys of the file are exactly the settings."""
    assert sorted(BROKER_KEYS) == sorted([NAME, *public(Settings)])
    assert sorted(MODEL_KEYS) == sorted(public(ModelSpec))


@pytest.mark.parametrize("command", ["serve", "run"])
def test_every_setting_is_an_option(command: str) -> None:
    """Of the commands that start a broker; those of models are said with --set."""
    options = {option.name for option in main.commands[command].params}
    senseless = ("idle_seconds",) if command == "run" else ()  # its broker lives as long as the command
    assert {NAME, *public(Settings)} - options == {*PYTHON_ONLY, *senseless}
    assert sorted(SETTINGS) == sorted(set(public(ModelSpec)) - {"source"})


@pytest.mark.parametrize("kind", [Settings, ModelSpec])
def test_no_setting_is_unchecked(kind: type) -> None:
    """Each has its check beside it, which every way to set it goes through."""
    found = [each.name for each in fields(kind) if "check" not in each.metadata]
    assert set(found) & set(public(kind)) == set()


@pytest.mark.parametrize("command", ["serve", "run"])
def test_options_have_the_defaults_of_their_settings(command: str) -> None:
    """As Python has them, but for what a command says otherwise."""
    options = {option.name: option.default for option in main.commands[command].params}
    made = Settings(models=(), **OF_COMMANDS)
    for name in set(public(Settings)) & set(options) - {"tune"}:
        assert options[name] == getattr(made, name), name


@pytest.mark.parametrize("name", sorted(set(OF_MODELS) - {"source"}))
def test_a_models_setting_is_the_same_everywhere(name: str, tmp_path: Path) -> None:
    """`--set`, the file and Python mean the same by one name and value."""
    spec = replace(ModelSpec("m", "/s"), **{name: OF_MODELS[name]})
    text = shown_of(tmp_path, spec)
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} = ")]
    said = line.partition(" = ")[2]
    (path := tmp_path / "one.toml").write_text(f'[models.m]\nsource = "/s"\n{line}\n')
    assert read(path).models == (spec,)
    assert with_settings([ModelSpec("m", "/s")], [f"m.{name}={said}"]) == [spec]


def shown_of(folder: Path, *specs: ModelSpec) -> str:
    (path := folder / "empty.toml").write_text("")
    return shown(replace(read(path), models=specs))


@pytest.mark.parametrize("values", [{}, OF_SETTINGS], ids=["defaults", "others"])
def test_what_is_shown_says_the_same(values: dict[str, Any], tmp_path: Path) -> None:
    """`onesession config show` is a file that means what the first one meant, with every setting in it."""
    (path := tmp_path / "a.toml").write_text("")
    spec = ModelSpec("m", **{**OF_MODELS, "allowed_batch_sizes": (4, 16)}) if values else ModelSpec("m", "/s")
    given = replace(read(path), name="here", settings=dict(values), models=(spec,))
    text = shown(given)
    (path := tmp_path / "b.toml").write_text(text)
    again = read(path)
    assert (again.name, again.models) == ("here", (spec,))
    assert Settings(models=(), **again.settings) == Settings(models=(), **values)
    assert [key for key in (*BROKER_KEYS, *MODEL_KEYS) if f"{key} " not in text] == []
    assert text.count("# default") == (0 if values else text.count(" = ") - 2)


def test_what_tune_writes_can_be_read(tmp_path: Path) -> None:
    """`onesession tune --write` makes a file of this format, `onednn` included."""
    assert set(config_file.KEYS) <= set(MODEL_KEYS)
    spec = ModelSpec("m", "/s", intra_op_threads=2, max_concurrency=3, caller_thread=False, max_batch_size=16)
    config_file.write(path := tmp_path / "broker.toml", [spec], onednn=True)
    found = read(path)
    assert (found.models, found.settings) == ((spec,), {"onednn": "on"})
