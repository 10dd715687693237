"""Everything people have on disk, and Python factories, served by one broker: the answers are TensorFlow's own."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

import worker_client
from benchmarks.models.mlp import mlp_answer
from broker.models.errors import ModelLoadError
from broker.models.lifecycle import repository
from broker.models.sources import session
from broker.models.spec import ModelSpec
from tests.brokers import TestBroker, serving
from tests.models.model_files import answers_of, inputs_of

HANDLE = "https://tfhub.dev/google/mlp/1"
FACTORIES = "tests.tensorflow.factories"
SESSION_NAMES = {"inputs": {"x": "x"}, "outputs": {"y": "y:0"}}
KERAS_TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}
"""Keras runs its layers op by op, the exported graph is optimised as a whole."""

X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(scope="module")
def broker(
    saved_models: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestBroker]:
    """All of them in one broker."""
    hub = tmp_path_factory.mktemp("hub")
    shutil.copytree(saved_models["mlp"], hub / hashlib.sha1(HANDLE.encode()).hexdigest())
    models: dict[str, Any] = {
        "keras_file": saved_models["keras_file"] / "model.keras",
        "h5_file": saved_models["h5_file"],
        "keras_module": saved_models["keras_module"],
        "frozen": {"source": saved_models["frozen"], "inputs": {"x": "input"}, "outputs": ["scope/label"]},
        "hub_module": saved_models["hub_module"],
        "hub_handle": HANDLE,
        "session_with_names": f"{FACTORIES}:session_with_names",
        "bare_session": {"source": f"{FACTORIES}:bare_session", **SESSION_NAMES},
        "keras": f"{FACTORIES}:keras",
        "function": f"{FACTORIES}:function",
        "signed_function": f"{FACTORIES}:signed_function",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFHUB_CACHE_DIR", str(hub))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        with serving(models=models) as made:
            yield made


@pytest.mark.parametrize("kind", ["keras_module", "frozen", "hub_module"])
def test_the_answers_are_bit_by_bit_those_of_tensorflow(broker, saved_models, kind):
    """Row by row, as TensorFlow answered them; the frozen graph and the hub's module have filled their tables."""
    path = saved_models[kind]
    with worker_client.connect(broker.address) as client:
        answer = client.model(kind).predict(inputs_of(path))
        assert answer.keys() == answers_of(path).keys()
        for name, want in answers_of(path).items():
            np.testing.assert_array_equal(answer[name], want)


@pytest.mark.parametrize("kind", ["keras_file", "h5_file"])
def test_keras_files_answer_as_keras_does(broker, saved_models, kind):
    """With the names of their inputs, and in the order of their outputs."""
    path = saved_models[kind]
    with worker_client.connect(broker.address) as client:
        answer = client.model(kind).predict(inputs_of(path))
        assert answer.keys() == answers_of(path).keys()
        for name, want in answers_of(path).items():
            np.testing.assert_allclose(answer[name], want, **KERAS_TOLERANCE)


@pytest.mark.parametrize(
    "name", ["session_with_names", "bare_session", "keras", "function", "signed_function"]
)
def test_what_a_factory_returns_is_served(broker, name):
    """A session, with its tensors' names or with those of the settings, a Keras model, a function."""
    with worker_client.connect(broker.address) as client:
        np.testing.assert_array_equal(client.model(name).predict(X), X * 3)


def test_a_hub_handle_is_found_in_its_cache(broker, rng):
    """By tensorflow_hub's own rule, with nothing downloaded."""
    x = rng.normal(size=(3, 128)).astype(np.float32)
    with worker_client.connect(broker.address) as client:
        np.testing.assert_allclose(client.model("hub_handle").predict(x), mlp_answer(x), atol=1e-6)


def test_any_tensor_of_a_keras_file_can_be_asked_for(broker, saved_models):
    """It is a SavedModel by then, with a session as every other."""
    x = inputs_of(saved_models["h5_file"])["x"]
    with worker_client.connect(broker.address) as client:
        y = client.session("h5_file").run("StatefulPartitionedCall_1:0", {"serving_default_x:0": x})
        np.testing.assert_array_equal(y, client.model("h5_file").predict(x))


# --- what cannot be loaded ---


def refusal(source: Path | str, **settings: Any) -> str:
    """The message with which loading this fails."""
    with pytest.raises(ModelLoadError) as caught:
        repository.load_model(ModelSpec("broken", str(source), **{"intra_op_threads": 1, **settings}))
    return str(caught.value)


@contextmanager
def changed(path: Path) -> Iterator[Any]:
    """The MetaGraph of a SavedModel, to change."""
    model = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    yield model.meta_graphs[0]
    (path / "saved_model.pb").write_bytes(model.SerializeToString())


def test_functions_without_a_signature_are_listed(saved_models):
    """With what each takes, and how to export one of them."""
    text = refusal(saved_models["untraced"])
    assert "it has no signatures; its functions are plain(x: float32[?, 2]); plain(x: float32[])" in text
    assert "scaled(x: float32[?, 4], factor: int64[])" in text
    assert "scaled(x: float32[?, 4], 3)" in text
    assert "tf.saved_model.save(module, path, signatures=module.plain)" in text


def test_a_variable_that_was_not_saved(saved_models, tmp_path):
    """Leaves out the signatures that read it; if none is left, the remedy speaks of Keras's export."""
    model = session.load(ModelSpec("m", str(saved_models["unsaved_variable"]), intra_op_threads=1))
    try:
        assert list(model.signatures) == ["good"]
        said = "it reads variables without a value: unsaved, which were not saved with it"
        assert model.left_out == {"bad": said}
        assert model.callable("good")(np.float32([[1, 2]]))[0].tolist() == [[2, 4]]
    finally:
        model.close()
    path = shutil.copytree(saved_models["unsaved_variable"], tmp_path / "bad")
    with changed(path) as meta_graph:
        del meta_graph.signature_def["good"]
    text = refusal(path)
    assert f"none of its signatures can be served (bad: {said})" in text
    assert "Export a Keras model with model.export(path)" in text


def test_a_frozen_graph_says_what_its_outputs_could_be(saved_models):
    """Where nothing names them and there is not just one candidate."""
    path = saved_models["frozen"] / "graph.pb"
    assert "its settings inputs = ['x=gone:0'] and outputs = ['y=scope/label:0'] do not fit" in refusal(
        path, inputs={"x": "gone"}, outputs={"y": "scope/label"}
    )
    model = session.load(ModelSpec("m", str(path), intra_op_threads=1))
    try:
        assert str(model.signatures["serving_default"]).endswith(
            "(input: float32[?, 4]) -> (label: int64[...])"
        )
    finally:
        model.close()


def test_a_file_that_is_no_graph(tmp_path):
    """Bytes that are no GraphDef, and a graph with nothing in it."""
    (tmp_path / "noise.pb").write_bytes(b"\xff\x00 this is no protobuf")
    assert "is not a GraphDef: " in refusal(tmp_path / "noise.pb")
    (tmp_path / "empty.pb").write_bytes(b"")
    assert "it has no nodes" in refusal(tmp_path / "empty.pb")


@pytest.mark.parametrize(("name", "what"), [("cut.keras", "a zip archive"), ("cut.h5", "an HDF5 file")])
def test_a_keras_file_that_is_damaged(tmp_path, name, what):
    """Is told without starting Keras."""
    (tmp_path / name).write_bytes(b"PK\x03\x04 and no more")
    assert f"{tmp_path / name} is damaged: it is not {what}, as a Keras file" in refusal(tmp_path / name)


def zip_of(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "{}")
    return path


@pytest.mark.parametrize(
    ("name", "inside", "says"),
    [
        (
            "net.keras",
            ["metadata.json", "model.weights.h5"],
            "holds weights without a model: it has no config.json",
        ),
        (
            "net.keras",
            ["m/saved_model.pb"],
            "is a zip archive with a SavedModel in it (m/saved_model.pb). Unpack it",
        ),
        (
            "net.keras",
            ["a.txt"],
            "is a zip archive with a.txt and no config.json, so it is not a Keras file. Export",
        ),
        (
            "net.h5",
            ["config.json", "model.weights.h5"],
            "as Keras writes it under the name .keras. Rename it",
        ),
    ],
)
def test_a_zip_archive_that_is_another(tmp_path, name, inside, says):
    """What it is shows by the names in it, without Keras."""
    assert says in refusal(zip_of(tmp_path / name, *inside))


def test_an_hdf5_file_by_the_name_of_the_new_format(tmp_path):
    """As older Kerases wrote it."""
    (tmp_path / "net.keras").write_bytes(b"\x89HDF\r\n\x1a\n...")
    assert "is an HDF5 file, which Keras reads under the name .h5. Rename it" in refusal(
        tmp_path / "net.keras"
    )


def test_an_hdf5_file_without_a_model(tmp_path):
    """Weights only, or cut off: h5py tells at once, and Keras is not started."""
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file.create_group("dense").create_dataset("kernel", data=np.ones((400, 4)))
    text = refusal(path)
    assert (
        f"{path} holds weights without a model: it has no attribute model_config. Save the whole model"
        in text
    )
    assert (
        f"a factory, module:function, that builds the model, calls model.load_weights({str(path)!r})" in text
    )
    path.write_bytes(path.read_bytes()[:3000])
    text = refusal(path)
    assert f"{path} is damaged: " in text
    assert text.endswith("Copy or save it again")


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_a_keras_file_with_code_in_it(saved_models, tmp_path, monkeypatch, name):
    """Keras does not run a Lambda layer's code; the remedy is told, and works."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = saved_models["lambda_keras_files"] / name
    text = refusal(path)
    assert f"Keras cannot load {path}: Requested the deserialization of a `Lambda` layer" in text
    assert "make a SavedModel with model.export(folder)" in text
    assert f"returns keras.models.load_model({str(path)!r}, safe_mode=False)" in text
    monkeypatch.setenv("ONESESSION_TEST_PATH", str(path))
    model = repository.load_model(ModelSpec("m", f"{FACTORIES}:unsafe_keras", intra_op_threads=1))
    try:
        np.testing.assert_array_equal(model.callable("serving_default")(X)[0], X * 3)
    finally:
        model.close()


def test_a_checkpoint_is_served_by_the_factory_that_its_error_names(saved_models, monkeypatch):
    """Weights and graph of TensorFlow 1, restored with the call in the message."""
    folder = saved_models["checkpoint"]
    text = refusal(folder)
    assert "it holds a checkpoint of TensorFlow 1: weights and a graph without signatures (" in text
    assert f"import_meta_graph('{folder / 'model.ckpt-3.meta'}')" in text
    monkeypatch.setenv("ONESESSION_TEST_PATH", str(folder / "model.ckpt-3"))
    model = repository.load_model(ModelSpec("m", f"{FACTORIES}:restored", intra_op_threads=1))
    try:
        np.testing.assert_array_equal(model.callable("serving_default")(X)[0], X * 3)
    finally:
        model.close()


@pytest.mark.slow
def test_a_keras_file_with_classes_of_its_own(saved_models, tmp_path, monkeypatch):
    """Keras's own words say which one is missing; `imports` brings it, and each load makes the model anew."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = saved_models["custom_keras_file"] / "model.keras"
    text = refusal(path)
    assert f"Keras cannot load and export {path}: " in text
    assert "Tripled" in text
    assert "Traceback" not in text
    assert "imports = ['package.module']" in text
    spec = ModelSpec("m", str(path), intra_op_threads=1, imports=("tests.models.keras_layer",))
    model = session.load(spec)
    try:
        (y,) = model.callable("serving_default")(X)
        np.testing.assert_array_equal(y, X * 3)
    finally:
        model.close()


def test_a_handle_that_is_not_in_the_cache(tmp_path, monkeypatch):
    """The error says where it was looked for, and how to fill the cache."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    text = refusal(HANDLE)
    assert f"there is no {tmp_path / hashlib.sha1(HANDLE.encode()).hexdigest()}" in text
    assert f'hub.resolve("{HANDLE}")' in text


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("bare_session", 'Return (session, {"x": x}, {"y": y}), or set inputs = '),
        ("nothing", "it returned None, which is not a model. A factory returns a tf.compat.v1.Session, "),
        (
            "raising",
            "calling it raised OSError: no licence for these weights. It has no signature, so it was",
        ),
        (
            "needs_arguments",
            "'needs_arguments' has no signature, and is not a factory either: it takes path. ",
        ),
        ("unbuilt_keras", "the Keras model it returned cannot be exported: "),
        ("gone", "'tests.tensorflow.factories' has no attribute 'gone'"),
    ],
)
def test_what_is_wrong_with_a_factory_is_told(name, says):
    """And what a factory returns."""
    assert says in refusal(f"{FACTORIES}:{name}")


def test_what_a_model_imports(saved_models, tmp_path, monkeypatch):
    """`imports` are imported first; one that is missing is named."""
    text = refusal(saved_models["mlp"], imports=["no_such_ops"])
    assert "importing 'no_such_ops' (its setting imports) raised ModuleNotFoundError" in text
    (tmp_path / "ops_of_mine.py").write_text("raise RuntimeError('wrong machine')")
    monkeypatch.syspath_prepend(tmp_path)
    assert "raised RuntimeError: wrong machine" in refusal(saved_models["mlp"], imports=["ops_of_mine"])


def test_a_library_of_ops_that_is_none(saved_models, tmp_path):
    """A path that is not there, and a file that is no library."""
    gone = tmp_path / "gone.so"
    assert f"its library of ops {gone} does not exist" in refusal(
        saved_models["mlp"], op_libraries=[str(gone)]
    )
    gone.write_bytes(b"no ELF")
    assert f"its library of ops {gone} cannot be loaded: " in refusal(
        saved_models["mlp"], op_libraries=[str(gone)]
    )


def test_a_graph_of_a_later_tensorflow(saved_models, tmp_path):
    """Both versions are named."""
    path = shutil.copytree(saved_models["mlp"], tmp_path / "mlp")
    with changed(path) as meta_graph:
        meta_graph.meta_info_def.tensorflow_version = "9.99.0"
        meta_graph.graph_def.versions.min_consumer = 1 << 20
    text = refusal(path)
    assert "its graph cannot be imported: " in text
    assert "Serve it with the TensorFlow that exported it, 9.99.0 (this is " in text
