"""Where a SavedModel lies, and what is said where there is none. No TensorFlow here: only names and sizes of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker.models.errors import ModelLoadError
from broker.models.saved_model import locate, missing_variables, weight_bytes
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
    assert f"its highest version {tmp_path / '2'} is no SavedModel: it holds no saved_model.pb" in text


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
        f"{tmp_path}). Give the path of a SavedModel directory, or module:function for a Python callable"
    )
    assert f"{tmp_path / 'gone'} does not exist. Give" in refusal(tmp_path / "gone")


def test_an_empty_directory(tmp_path):
    """What is missing is named, and how to export."""
    text = refusal(tmp_path)
    assert f"{tmp_path} is no SavedModel: it holds no saved_model.pb and no numbered versions" in text
    assert "tf.saved_model.save(" in text


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("saved_model.pb", "Give the directory that holds it: "),
        ("model.keras", "is a Keras file, not a SavedModel. Convert it once: keras.models.load_model"),
        ("model.h5", "is a Keras file"),
        ("weights.bin", "is a file and not a directory"),
    ],
)
def test_a_file(tmp_path, name, says):
    """A file where a directory belongs is told with what to do about this kind of file."""
    (tmp_path / name).write_bytes(b"")
    assert says in refusal(tmp_path / name)


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
