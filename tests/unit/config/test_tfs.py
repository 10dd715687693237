"""TensorFlow Serving's configuration: its text format, and what becomes of each setting."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.cli import main
from broker.config import tfs
from broker.config.file import read
from broker.config.textproto import parse
from worker_client.wire.errors import InvalidInput

MODELS = """
# as in TensorFlow Serving's documentation
model_config_list {
  config {
    name: 'digits'
    base_path: "/models/" "digits"   # neighbours are one text
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 42 versions: 43 } }
    version_labels { key: 'stable' value: 42 }
    version_labels { key: 'canary' value: 43 }
  }
  config: < name: "faces", base_path: "/models/faces"; model_version_policy: { latest: { num_versions: 2 } } >
  config { name: "old" base_path: "/old" model_version_policy { all {} } logging_config { } }
}
"""
BATCHING = """
max_batch_size { value: 128 }
batch_timeout_micros { value: 5000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 4 }
allowed_batch_sizes: [8, 32, 128]
pad_variable_length_inputs: true
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    models, batching = tmp_path / "models.config", tmp_path / "batching.txt"
    models.write_text(MODELS)
    batching.write_text(BATCHING)
    return models, batching


def test_each_setting_has_its_counterpart(files: tuple[Path, Path], tmp_path: Path) -> None:
    """And what has none is told. The result is a configuration that can be read."""
    imported = tfs.read(*files)
    shared = {
        "max_batch_size": 128,
        "max_delay": 0.005,
        "allowed_batch_sizes": [8, 32, 128],
        "max_queue_rows": 12800,
        "pad_variable_length": True,
    }
    digits = {"source": "/models/digits", "versions": [42, 43], "labels": {"stable": 42, "canary": 43}}
    assert imported.models == {
        "digits": {**digits, **shared},
        "faces": {"source": "/models/faces", "versions": "latest:2", **shared},
        "old": {"source": "/old", "versions": "all", **shared},
    }
    assert [note.partition(" was")[0] for note in imported.notes] == [
        "model 'digits': model_platform",
        "model 'old': logging_config",
        "batching: num_batch_threads",
    ]
    (path := tmp_path / "broker.toml").write_text(imported.to_toml())
    assert [spec.name for spec in read(path).models] == ["digits", "faces", "old"]


def test_without_batching_parameters_nothing_is_batched(files: tuple[Path, Path]) -> None:
    """As there, without --enable_batching."""
    assert all(model["batching"] is False for model in tfs.read(files[0]).models.values())


def test_the_command_prints_a_configuration(files: tuple[Path, Path], tmp_path: Path) -> None:
    """On stdout the file, on stderr what was left out."""
    result = CliRunner().invoke(main, ["config", "import-tfs", str(files[0])])
    assert "note: model 'digits': model_platform was left out" in result.stderr
    (path := tmp_path / "broker.toml").write_text(result.stdout)
    assert len(read(path).models) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a {", "line 1: expected the name of a field, got the end"),
        ("a: 1\nb 2", "line 2: expected ':' or '{', got 2"),
        ("a: [1, 2", "expected ',' or ']', got the end"),
        ("a: }", "expected a value, got }"),
        ("\n\n a: @", "line 3: '@' is no text format"),
        ("{}", "expected the name of a field, got {"),
    ],
)
def test_no_text_format_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text, "models.config")
    assert "models.config, line" in str(caught.value)
    assert said in str(caught.value)


def test_values_of_the_text_format() -> None:
    """Numbers, words, texts, lists, messages with either kind of bracket."""
    text = r"a: -1 b: 0x1F c: 1.5e3f d: true e: NAME f: 'it\'s\x41' g: [] h <i: 1> [x.y/z.w] { j: 010 }"
    assert parse(text) == {
        "a": [-1],
        "b": [31],
        "c": [1500.0],
        "d": [True],
        "e": ["NAME"],
        "f": ["it'sA"],
        "g": [],
        "h": [{"i": [1]}],
        "x.y/z.w": [{"j": [8]}],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a model_config_list, as --model_config_file takes it; it has none"),
        ("platform_configs {}", "it has platform_configs"),
        ("model_config_list { config { name: 'a' } }", "has name 'a' and base_path None; both must be texts"),
        (
            "model_config_list { config { name: 'a' base_path: '/a' } config { name: 'a' base_path: '/b' } }",
            "two models are called 'a'",
        ),
        ("model_config_list { config { name: 'a b' base_path: '/a' } }", "'a b' is no model name"),
    ],
)
def test_what_is_no_models_config(tmp_path: Path, text: str, said: str) -> None:
    (path := tmp_path / "models.config").write_text(text)
    with pytest.raises(InvalidInput) as caught:
        tfs.read(path)
    assert said in str(caught.value)
    with pytest.raises(InvalidInput, match="cannot be read"):
        tfs.read(tmp_path / "nothing")
