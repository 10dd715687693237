"""TensorFlow Serving's configuration: its text format, and what becomes of each setting."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from google.protobuf import text_format
from google.protobuf.wrappers_pb2 import StringValue

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


def of_a(rest: str) -> str:
    return f"model_config_list {{ config {{ name: 'a' base_path: '/a' {rest} }} }}"


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
        "batching": "on",
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
        "batching: a request of more than max_batch_size rows is split, and not refused",
        "batching: num_batch_threads",
    ]
    (path := tmp_path / "broker.toml").write_text(imported.to_toml())
    found = read(path)
    assert [spec.name for spec in found.models] == ["digits", "faces", "old"]
    assert found.settings == {"poll_seconds": 1}


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (
            """max_batch_size { value: 128 } enable_large_batch_splitting { value: true }
            max_execution_batch_size { value: 32 } allowed_batch_sizes: [8, 32] max_enqueued_batches { value: 4 }""",
            {"max_batch_size": 32, "allowed_batch_sizes": [8, 32], "max_queue_rows": 128},
        ),
        ("max_enqueued_batches { value: 2 }", {"max_queue_rows": 2000}),
        ("batch_timeout_micros { value: 99000000 }", {"max_delay": 10.0}),
        ("pad_variable_length_inputs: false", {}),
        ("", {}),
    ],
)
def test_batching(files: tuple[Path, Path], text: str, settings: dict[str, object]) -> None:
    """What a run's size is where requests are split there, too; what the defaults there mean."""
    files[1].write_text(text)
    imported = tfs.read(*files)
    assert imported.models["faces"] == {
        "source": "/models/faces",
        "versions": "latest:2",
        "batching": "on",
        **settings,
    }
    assert ("max_delay is at most 10 s" in "".join(imported.notes)) is ("max_delay" in settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_batch_size { value: 'x' }", "{1}: max_batch_size must be an integer, got 'x'"),
        ("max_enqueued_batches: 1.5", "{1}: max_enqueued_batches must be an integer, got 1.5"),
        (
            "max_batch_size {}",
            "{0} with {1}: model 'digits': max_batch_size must be an integer >= 1",
        ),
        ("enable_large_batch_splitting: 1", "{1}: enable_large_batch_splitting must be true or false, got 1"),
        (
            "allowed_batch_sizes: [8, 4]",
            "{0} with {1}: model 'digits': allowed_batch_sizes must be in ascending",
        ),
        ("\nmax_batch_size { value 1 }", "{1}, line 2: expected"),
    ],
)
def test_what_is_no_batching_parameters_file(files: tuple[Path, Path], text: str, said: str) -> None:
    """Is told with the file."""
    files[1].write_text(text)
    with pytest.raises(InvalidInput) as caught:
        tfs.read(*files)
    assert str(caught.value).startswith(said.format(*files))


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
        ("\n\n a: @", "line 3: expected a value, got @"),
        ("a: 'x\nb: 1", "line 1: expected a string, got 'x"),
        (r"a: '\xFF'", "line 1: expected a string, got "),
        ("[x.y", "expected ']', got the end"),
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


def test_texts_as_protobuf_writes_them() -> None:
    """Each byte of UTF-8 that is not ASCII is escaped by itself."""
    name = StringValue(value="/models/größe\t'\"")
    assert parse(text_format.MessageToString(name, as_utf8=False)) == {"value": [name.value]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a model_config_list, as --model_config_file takes it; it has nothing"),
        ("platform_configs {}", "it has platform_configs"),
        ("custom_model_config {}", "it has custom_model_config"),
        ("model_config_list: 3", "model_config_list must be a message, model_config_list { ... }, got 3"),
        ("model_config_list { config: 3 }", "config must be a message, config { ... }, got 3"),
        (
            "model_config_list { config { name: 'a' } }",
            "has name 'a' and base_path None; both must be strings",
        ),
        (
            "model_config_list { config { name: 'a' base_path: '/a' } config { name: 'a' base_path: '/b' } }",
            "two models are called 'a'",
        ),
        (of_a("version_labels: 3"), "model 'a': version_labels must be a message"),
        (
            of_a("version_labels { key: 'x' value: 'y' }"),
            "model 'a': labels must be a mapping of names to version numbers",
        ),
        (of_a("model_version_policy: 'all'"), "model 'a': model_version_policy must be a message"),
        (of_a("model_version_policy { newest {} }"), "must be one of latest, all, specific; it has newest"),
        (
            of_a("model_version_policy { all {} latest {} }"),
            "must be one of latest, all, specific; it has all, ",
        ),
        (of_a("model_version_policy { specific: 3 }"), "model_version_policy: specific must be a message"),
        (of_a("model_version_policy { specific {} }"), "model 'a': versions must be 'latest', "),
        (
            of_a("model_version_policy { latest { num_versions: 'x' } }"),
            "model 'a': versions must be 'latest', ",
        ),
        ("model_config_list { config { name: 'a b' base_path: '/a' } }", "'a b' is not a model name"),
    ],
)
def test_what_is_no_models_config(tmp_path: Path, text: str, said: str) -> None:
    (path := tmp_path / "models.config").write_text(text)
    with pytest.raises(InvalidInput) as caught:
        tfs.read(path)
    assert said in str(caught.value)
    with pytest.raises(InvalidInput, match="cannot be read"):
        tfs.read(tmp_path / "nothing")
