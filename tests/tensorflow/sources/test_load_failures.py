"""A model that cannot be loaded is told with an error that names it, the cause and the remedy; others are served."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.models.errors import ModelLoadError
from broker.models.lifecycle import repository
from broker.models.sources import session
from broker.models.spec import ModelSpec
from worker_client.wire.errors import BrokerError, ModelNotFound


@pytest.fixture
def copy(saved_models, tmp_path) -> Callable[[str], Path]:
    """`copy(kind)` is a SavedModel that the test may break."""

    def copy_kind(kind: str) -> Path:
        return Path(shutil.copytree(saved_models[kind], tmp_path / kind))

    return copy_kind


def refusal(path: Path | str, **settings) -> str:
    """The message with which loading this path fails."""
    with pytest.raises(ModelLoadError) as caught:
        session.load(ModelSpec("broken", str(path), **settings))
    assert isinstance(caught.value, BrokerError)
    text = str(caught.value)
    assert text.startswith(f"model 'broken' from {str(path)!r} cannot be loaded: ")
    return text


def test_a_corrupt_graph(copy):
    """Bytes that are not a protobuf are reported as such, not as a crash."""
    path = copy("mlp")
    (path / "saved_model.pb").write_bytes(b"\xff\x00 this is no protobuf")
    assert "the graph file in" in (text := refusal(path))
    assert text.endswith("Copy or export the model again")


@pytest.mark.parametrize("keep", [0, 1, 100, 1000])
def test_a_graph_that_was_cut_off(copy, keep):
    """A copy that stopped half-way is refused, an empty file too."""
    path = copy("mlp")
    whole = (path / "saved_model.pb").read_bytes()
    (path / "saved_model.pb").write_bytes(whole[:keep])
    text = refusal(path)
    assert "cannot be read" in text or "is empty or cut off" in text


def test_a_text_graph_that_is_none(copy):
    """The text form of the graph file is read, and refused where it is nonsense."""
    path = copy("mlp")
    (path / "saved_model.pb").unlink()
    (path / "saved_model.pbtxt").write_bytes(b"\xfe\xfe")
    assert "the graph file in" in refusal(path)


def test_tags_that_are_not_there(copy):
    """The error lists the tags there are."""
    text = refusal(copy("mlp"), tags=("serve", "gpu"))
    assert "it has no graph with the tags ('serve', 'gpu'), only with ('serve',)" in text


def test_variables_that_are_missing(copy):
    """A directory without its variables is told by the file that is not there."""
    path = copy("mlp")
    shutil.rmtree(path / "variables")
    text = refusal(path)
    assert f"there is no {path / 'variables' / 'variables.index'}" in text
    assert text.endswith("Copy the whole directory again")


def test_a_variables_file_that_is_missing(copy):
    """The index without its data is told by TensorFlow's message."""
    path = copy("mlp")
    (data,) = (path / "variables").glob("variables.data-*")
    data.unlink()
    text = refusal(path)
    assert "its variables cannot be restored: " in text
    assert data.name in text


def test_a_variables_file_that_is_damaged(copy):
    """Truncated data is found at the start, not in the answers."""
    path = copy("mlp")
    (data,) = (path / "variables").glob("variables.data-*")
    data.write_bytes(data.read_bytes()[:100])
    assert "its variables cannot be restored: " in refusal(path)


def test_an_asset_that_is_missing(copy):
    """A table that cannot be filled stops the load and names the file."""
    path = copy("classic")
    (asset,) = (path / "assets").iterdir()
    asset.unlink()
    text = refusal(path)
    assert "its initialisation failed: " in text
    assert asset.name in text


def test_no_signature_at_all(saved_models):
    """The error shows how to export one."""
    text = refusal(saved_models["no_signature"])
    assert "it has no signatures, and no traced functions that could become one. Export it with" in text


def test_no_signature_that_can_be_served(saved_models):
    """If no signature can be served, the error lists every reason."""
    text = refusal(saved_models["only_variants"])
    assert "none of its signatures can be served (serving_default: output 'list' is variant" in text


def test_a_graph_that_calls_python(saved_models, load):
    """Its functions were not saved: such signatures are left out at load, those in a branch of tf.cond as well."""
    model = load("calls_python")
    assert list(model.signatures) == ["serving_default"]
    told = "it calls Python, which is not saved with a graph"
    assert model.left_out["eager"].startswith(f"{told} (op EagerPyFunc 'EagerPyFunc' in function ")
    assert model.left_out["numpy"].startswith(f"{told} (op PyFunc ")
    text = refusal(saved_models["only_python"])
    assert f"none of its signatures can be served (serving_default: {told} (op EagerPyFunc" in text
    assert "Write what tf.py_function or tf.numpy_function does with TensorFlow's ops" in text


def test_an_op_that_this_tensorflow_does_not_know(copy):
    """A graph with a foreign op is refused with the op's name."""
    path = copy("mlp")
    graph = (path / "saved_model.pb").read_bytes()
    (path / "saved_model.pb").write_bytes(graph.replace(b"Softmax", b"Saftmax"))
    text = refusal(path)
    assert "its graph needs the op 'Saftmax', which this TensorFlow (" in text
    assert "--load-op-library PATH (the setting op_libraries), or the setting imports" in text


def test_the_highest_version_is_taken(saved_models, tmp_path):
    """A directory of numbered versions gives the highest number, not the last in the alphabet."""
    for number, kind in {"2": "classic", "10": "mlp", "010x": "failing"}.items():
        (tmp_path / number).symlink_to(saved_models[kind])
    model = session.load(ModelSpec("versioned", str(tmp_path), intra_op_threads=1))
    try:
        assert model.version == 10
        assert model.signatures["serving_default"].inputs[0].shape == (None, 128)
    finally:
        model.close()


def test_all_failures_are_told_at_once(tmp_path):
    """Where no model can be loaded, one start shows everything there is to repair."""
    specs = [ModelSpec("gone", str(tmp_path / "gone")), ModelSpec("code", "no_such_module:f")]
    with pytest.raises(ModelLoadError) as caught:
        repository.load(specs)
    first, *rest = str(caught.value).splitlines()
    assert first == "2 models cannot be loaded:"
    assert [line.split(" from ")[0] for line in rest] == ["  - model 'gone'", "  - model 'code'"]


def test_what_cannot_be_loaded_does_not_stop_the_others(saved_models, tmp_path, caplog):
    """A model that cannot be loaded is logged, is in state END with its cause, and its callers get the cause."""
    specs = [ModelSpec("gone", str(tmp_path / "gone")), ModelSpec("good", str(saved_models["mlp"]))]
    loaded = repository.load(specs, warm=False)
    try:
        assert loaded.entry("good").signature.name == "serving_default"
        (version,) = loaded.describe()["gone"]["versions"]
        assert version["state"] == "END"
        assert version["cause"].startswith(f"model 'gone' from '{tmp_path / 'gone'}' cannot be loaded: ")
        with pytest.raises(
            ModelNotFound, match="no version of model 'gone' can be called: .* does not exist"
        ):
            loaded.entry("gone")
        assert version["cause"] in caplog.text
    finally:
        loaded.close()
