"""Where a SavedModel lies, and what is said where there is none. No TensorFlow here: only names and sizes of files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from broker.models.errors import ModelLoadError
from broker.models.files.locate import locate, missing_variables, weight_bytes
from broker.models.spec import ModelSpec


def make(path: Path, name: str = "saved_model.pb") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / name).write_bytes(b"x" * 10)
    return path


def refusal(source: Path | str) -> str:
    with pytest.raises(ModelLoadError) as caught:
        locate(ModelSpec("m", str(source)))
    return str(caught.value)


@pytest.mark.parametrize("name", ["saved_model.pb", "saved_model.pbtxt"])
def test_a_saved_model_is_its_own_first_version(tmp_path, name):
    """A directory with a graph file is taken as it is, whatever its name."""
    assert locate(ModelSpec("m", str(make(tmp_path / "7", name)))) == (tmp_path / "7", 1)


def test_numbered_versions(tmp_path):
    """The highest number is taken; other names, and files, are no versions."""
    for name in ("1", "9", "010", "v99", "-5", "1.5"):
        make(tmp_path / name)
    (tmp_path / "11").write_text("a file")
    assert locate(ModelSpec("m", str(tmp_path))) == (tmp_path / "010", 10)


def test_an_unfinished_version_is_not_skipped(tmp_path):
    """Serving an older version than the directory shows would go unnoticed."""
    make(tmp_path / "1")
    (tmp_path / "2").mkdir()
    text = refusal(tmp_path)
    assert f"its highest version {tmp_path / '2'} is not a model: it is empty" in text


@pytest.mark.parametrize(
    "name", ["net.keras", "net.h5", "net.hdf5", "graph.pb", "graph.pbtxt", "graph.graphdef"]
)
def test_a_model_that_is_a_file(tmp_path, name):
    """Is taken by its path, by a folder that holds no other, and as a version."""
    make(tmp_path / "7", name)
    (tmp_path / "7" / "README.md").write_text("about it")
    for source, version in ((tmp_path / "7" / name, 1), (tmp_path / "7", 1), (tmp_path, 7)):
        assert locate(ModelSpec("m", str(source))) == (tmp_path / "7" / name, version)


def test_a_file_is_known_by_its_first_bytes(tmp_path):
    """HDF5 is Keras's, whatever the name's end."""
    (tmp_path / "net").write_bytes(b"\x89HDF\r\n\x1a\n...")
    assert locate(ModelSpec("m", str(tmp_path / "net"))) == (tmp_path / "net", 1)


def test_several_files_in_a_folder(tmp_path):
    """Which one is meant cannot be guessed."""
    make(tmp_path, "a.keras")
    make(tmp_path, "b.pb")
    assert f"{tmp_path} holds several models: a.keras, b.pb. Give the path of one of them" in refusal(
        tmp_path
    )


def test_what_a_folder_holds_is_told(tmp_path):
    """So that a wrong path shows at once."""
    for name in "abcdefghij":
        (tmp_path / f"{name}.txt").touch()
    (tmp_path / "0").mkdir()
    (tmp_path / "0").rename(tmp_path / "assets")
    assert "it holds a.txt, assets/, b.txt, c.txt, d.txt, e.txt, f.txt, g.txt and 3 more" in refusal(tmp_path)


def test_a_handle_of_the_hub(tmp_path, monkeypatch):
    """Lies where tensorflow_hub puts it: under the SHA-1 of the handle, in its cache."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    handle = "https://tfhub.dev/google/nnlm-en-dim50/2"
    directory = make(tmp_path / hashlib.sha1(handle.encode()).hexdigest())
    assert locate(ModelSpec("m", handle)) == (directory, 1)
    assert "this handle is not in a TensorFlow Hub cache" in refusal(handle.replace("/2", "/3"))


@pytest.mark.parametrize(
    ("handle", "folder"),
    [
        ("https://www.kaggle.com/models/google/nnlm/TensorFlow2/en-dim128/2", "tensorFlow2"),
        ("https://kaggle.com/models/google/nnlm/tensorFlow2/en-dim128/2/", "tensorFlow2"),
        (
            "https://www.kaggle.com/models/google/nnlm/frameworks/TensorFlow2/variations/en-dim128/versions/2",
            "TensorFlow2",
        ),
    ],
)
def test_a_handle_of_kaggle(tmp_path, monkeypatch, handle, folder):
    """Where the Hub's modules have moved to: kagglehub has them by name, tensorflow_hub as all others."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "hub"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    text = refusal(handle)
    assert f"there is no {tmp_path / 'hub'}/" in text
    assert f"nor {tmp_path / 'kaggle' / 'models' / 'google' / 'nnlm'}/" in text
    assert "Set TFHUB_CACHE_DIR or KAGGLEHUB_CACHE to the cache that has it" in text
    directory = make(tmp_path / "kaggle" / "models" / "google" / "nnlm" / folder / "en-dim128" / "2")
    assert locate(ModelSpec("m", handle)) == (directory, 1)
    other = make(tmp_path / "hub" / hashlib.sha1(handle.encode()).hexdigest())
    assert locate(ModelSpec("m", handle)) == (other, 1)


@pytest.mark.parametrize("source", ["gs://bucket/digits", "hdfs://host/digits", "s3://bucket/digits"])
def test_what_is_not_on_this_machine(source):
    """TensorFlow could read some of it; nothing is downloaded here."""
    assert f"it is in {source.partition(':')[0]!r}, not on this machine. Copy it" in refusal(source)


def test_home_is_expanded(tmp_path, monkeypatch):
    """~ works where no shell has replaced it, as in a configuration file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    make(tmp_path / "m")
    assert locate(ModelSpec("m", "~/m")) == (tmp_path / "m", 1)


def test_a_path_that_does_not_exist(tmp_path, monkeypatch):
    """A relative path is told with the directory in which it was looked for."""
    monkeypatch.chdir(tmp_path)
    assert refusal("models/digits") == (
        "model 'm' from 'models/digits' cannot be loaded: models/digits does not exist (looked in "
        f"{tmp_path}). Give the path of a SavedModel directory, a Keras file, a frozen graph or a LiteRT file, or "
        "module:function for a Python callable"
    )
    assert f"{tmp_path / 'gone'} does not exist. Give" in refusal(tmp_path / "gone")


def test_an_empty_directory(tmp_path):
    """What is missing is named, and how to export."""
    text = refusal(tmp_path)
    assert (
        f"{tmp_path} holds no model: no saved_model.pb, no Keras file, no frozen graph (.pb), no .tflite file and no"
        in text
    )
    assert "; it is empty. Export a model with" in text
    assert "tf.saved_model.save(" in text


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("saved_model.pb", "Give the directory that holds it: "),
        (
            "weights.bin",
            "weights.bin is not a model: it is not a Keras file, a frozen graph or a LiteRT file",
        ),
        ("model.onnx", "it is an ONNX model"),
        ("net.weights.h5", "it holds weights without a model"),
        ("model.ckpt-1000.index", "it is a checkpoint: weights without a graph"),
        ("model.ckpt-1000.data-00000-of-00001", "it is a checkpoint: weights without a graph"),
        ("model.tar.gz", "it is an archive: unpack it first. Unpack it and give the folder"),
        (
            "net.pt",
            "it is a PyTorch model. Serve a Python function that runs it, module:function (with torch)",
        ),
        ("net.safetensors", "it holds weights without a model. Serve a Python function that runs it"),
    ],
)
def test_a_file(tmp_path, name, says):
    """A file where a directory belongs is told with what to do about this kind of file."""
    (tmp_path / name).write_bytes(b"")
    assert says in refusal(tmp_path / name)


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


CHECKPOINT = ("model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001", "checkpoint")


@pytest.mark.parametrize("name", ["", *CHECKPOINT, "model.ckpt-7", "model.ckpt-7.meta"])
def test_a_checkpoint_of_tensorflow_1(tmp_path, name):
    """By its folder, any of its files, or its name: the remedy is the factory that restores it."""
    touch(tmp_path, *CHECKPOINT, "model.ckpt-7.meta", "graph.pbtxt", "events.out.tfevents.1")
    prefix = tmp_path / "model.ckpt-7"
    text = refusal(tmp_path / name)
    assert f"a checkpoint of TensorFlow 1: weights and a graph without signatures ({prefix})" in text
    assert (
        f"Serve a factory, module:function, that restores it, tf.compat.v1.train.import_meta_graph('{prefix}.meta')"
        f".restore(session, '{prefix}'), and returns (session, inputs, outputs)" in text
    )


@pytest.mark.parametrize("name", ["", "model.ckpt-7", "model.ckpt-7.index"])
def test_a_checkpoint_of_tensorflow_2(tmp_path, name):
    """It has no graph: the factory builds the model."""
    text = refusal(touch(tmp_path, *CHECKPOINT) / name)
    assert f"a checkpoint: weights without a graph ({tmp_path / 'model.ckpt-7'})" in text
    assert "that builds the model, restores it, tf.train.Checkpoint(model=model).restore(" in text


def test_a_version_that_is_a_checkpoint(tmp_path):
    """Its remedy is told, too."""
    touch(tmp_path / "3", *CHECKPOINT)
    text = refusal(tmp_path)
    assert f"its highest version {tmp_path / '3'} is not a model: it holds a checkpoint: weights" in text
    assert "Serve a factory, module:function, that builds the model" in text


def test_a_folder_of_models(tmp_path):
    """The level below is meant."""
    make(tmp_path / "export")
    (tmp_path / "logs").mkdir()
    text = refusal(tmp_path)
    assert f"it holds export/, logs/. Give the path of the model: {tmp_path / 'export'}" in text


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("net.onnx", "it holds net.onnx; of net.onnx: it is an ONNX model. Serve a Python function"),
        ("net.weights.h5", "it holds weights without a model. Save the whole model with model.save("),
    ],
)
def test_a_folder_with_a_foreign_model(tmp_path, name, says):
    """Is told as the file would be."""
    assert says in refusal(touch(tmp_path, name))


def test_a_file_in_the_middle_of_the_path(tmp_path):
    """Any other reason is the system's."""
    (tmp_path / "file").write_text("")
    assert "cannot be read: Not a directory" in refusal(tmp_path / "file" / "model")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_directory_that_may_not_be_read(tmp_path):
    """The remedy speaks of the broker's user."""
    make(tmp_path / "closed" / "m")
    (tmp_path / "closed").chmod(0)
    try:
        assert "Make it readable for the broker's user" in refusal(tmp_path / "closed" / "m")
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_weights_on_disk(tmp_path):
    """Graph and variables count, assets do not."""
    make(tmp_path)
    make(tmp_path / "variables", "variables.data-00000-of-00002")
    make(tmp_path / "variables", "variables.data-00001-of-00002")
    make(tmp_path / "assets", "vocabulary.txt")
    assert weight_bytes(tmp_path) == 30


def test_missing_variables(tmp_path):
    """The index file stands for all variables."""
    assert missing_variables(tmp_path) == tmp_path / "variables" / "variables.index"
    make(tmp_path / "variables", "variables.index")
    assert missing_variables(tmp_path) is None
