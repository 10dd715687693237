"""LiteRT files in a broker: the answers are those of an interpreter of the test's own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import worker_client
from broker.control_plane.query import ask
from broker.models.errors import ModelLoadError
from broker.models.lifecycle.loading import load_model
from broker.models.spec import ModelSpec
from tests.brokers import TestBroker, serving
from tests.models.lite_files import KINDS
from tests.side_by_side import made_once
from worker_client import Client, InvalidInput, ModelFailed, ModelNotFound

REFUSED = ("flex", "custom")
RNG = np.random.default_rng(4)
ROWS = RNG.standard_normal((7, 8)).astype(np.float32)
TEXTS = np.array([b"a", b"", b"nul \x00 at the end \x00", "ü".encode()], object)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    def make(folder: Path) -> None:
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-m", "tests.models.lite_files", folder], check=True, capture_output=True
        )

    folder = made_once(tmp_path_factory, "lite_files", make)
    return {kind: folder / f"{kind}.tflite" for kind in KINDS}


@pytest.fixture(scope="module")
def broker(files: Mapping[str, Path]) -> Iterator[TestBroker]:
    with serving(models={kind: path for kind, path in files.items() if kind not in REFUSED}) as broker:
        yield broker


class Own:
    """The interpreter that a worker would have."""

    def __init__(self, path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._interpreter = tf.lite.Interpreter(str(path))

    def __call__(self, signature: str, **inputs: Any) -> dict[str, Any]:
        return self._interpreter.get_signature_runner(signature)(**inputs)  # type: ignore[no-any-return]

    def first_graph(self, feed: np.ndarray) -> np.ndarray:
        own = self._interpreter
        own.resize_tensor_input(own.get_input_details()[0]["index"], feed.shape)
        own.allocate_tensors()
        own.set_tensor(own.get_input_details()[0]["index"], feed)
        own.invoke()
        return own.get_tensor(own.get_output_details()[0]["index"])  # type: ignore[no-any-return]


CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("float", "serving_default", {"x": ROWS}),
    ("float", "serving_default", {"x": ROWS[:1]}),
    ("int8", "serving_default", {"x": RNG.integers(-128, 128, (5, 8)).astype(np.int8)}),
    ("uint8", "serving_default", {"x": RNG.integers(0, 256, (5, 8)).astype(np.uint8)}),
    ("fixed", "serving_default", {"x": ROWS[:2, :4]}),
    ("two", "sums", {"x": ROWS[:, :3]}),
    ("two", "twice", {"n": np.array([1, -(1 << 60), 7])}),
    ("dependent", "serving_default", {"x": ROWS[:, :3]}),
    ("text", "serving_default", {"s": TEXTS}),
    ("lstm", "serving_default", {"x": ROWS[:5, None, :3].transpose(1, 0, 2)}),
]


@pytest.mark.parametrize(
    ("kind", "signature", "inputs"), CASES, ids=lambda value: value if type(value) is str else ""
)
def test_the_answers_are_an_interpreter_s_own(
    client: Client, files: Mapping[str, Path], kind: str, signature: str, inputs: dict[str, Any]
) -> None:
    """To the bit, for each dtype as the file has it, quantised values among them; also after other sizes."""
    wanted = Own(files[kind])(signature, **inputs)
    model = client.model(kind, signature=signature)
    for _ in range(2):
        got = model.predict(dict(inputs))
        assert got.keys() == wanted.keys()
        for name, value in wanted.items():
            assert got[name].dtype == np.asarray(value).dtype
            np.testing.assert_array_equal(got[name], value)
        if len(wanted) == 1 and next(iter(inputs.values())).shape[0] > 2 and kind != "fixed":
            model.predict({name: value[:2] for name, value in inputs.items()})


def test_a_file_without_signatures(client: Client, files: Mapping[str, Path]) -> None:
    """Its first graph is served, by the names of its tensors."""
    model = client.model("whole")
    np.testing.assert_array_equal(model.predict(ROWS), Own(files["whole"]).first_graph(ROWS))
    assert [spec.name for spec in model.signature.inputs] == ["serving_default_x:0"]


def test_rows_are_joined_only_where_they_are_independent(broker: TestBroker) -> None:
    """That is found out as for any other model, by running it; fixed sizes and state forbid it."""
    kinds = ("float", "int8", "text", "dependent", "fixed", "random")
    told = {kind: broker.status()["models"][kind]["serving_default"]["apart"] for kind in kinds}
    assert (told["float"], told["int8"], told["text"]) == ("", "", "")
    assert "depend" in told["dependent"] or "differs" in told["dependent"]
    assert "not free" in told["fixed"]
    assert "draws random numbers" in told["random"]


EMPTY: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("table", {"x": ROWS}, {"x": ROWS[:1, :0]}),
    ("table", {"x": ROWS}, {"x": ROWS[:0]}),
    ("masked", {"x": np.float32([1, 5])}, {"x": np.float32([-1, -5])}),
    ("branch", {"x": np.float32([1, 5])}, {"x": np.float32([-1, -5])}),
    ("sliced", {"x": np.float32([1, 5]), "n": np.int32(2)}, {"x": np.float32([1, 5]), "n": np.int32(0)}),
]


@pytest.mark.parametrize(
    ("kind", "others", "empty"), EMPTY, ids=lambda value: value if type(value) is str else ""
)
def test_nobody_gets_what_an_earlier_run_has_left(
    broker: TestBroker, client: Client, kind: str, others: dict[str, Any], empty: dict[str, Any]
) -> None:
    """LiteRT skips what is to be computed of nothing, and its output is then what an earlier run left in memory."""
    model = client.model(kind)
    with worker_client.connect(broker.address) as other:
        answer = other.model(kind).predict(dict(others))
        for _ in range(2):
            with pytest.raises(ModelFailed, match="its answer is undefined: .* has no elements"):
                model.predict(dict(empty))
        again = other.model(kind).predict(dict(others))
    for name, value in answer.items():
        np.testing.assert_array_equal(again[name], value)


def test_no_rows_have_no_answer_to_be_wrong(client: Client) -> None:
    """Where nothing comes out, nothing can be anybody else's."""
    assert client.model("float").predict(ROWS[:0]).shape == (0, 3)
    assert client.model("text").predict(TEXTS[:0]).shape == (0, 1)


def test_many_callers_at_once(client: Client, files: Mapping[str, Path]) -> None:
    """Requests of different sizes from many threads get their own answers."""
    own, model = Own(files["dependent"]), client.model("dependent")
    sizes = [RNG.standard_normal((rows, 3)).astype(np.float32) for rows in range(1, 9)]
    wanted = [own("serving_default", x=x)["y"] for x in sizes]
    wrong: list[Any] = []

    def call(number: int) -> None:
        for _ in range(50):
            got = model.predict(sizes[number])
            if not np.array_equal(got, wanted[number]):
                wrong.append((number, got))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_runs_side_by_side(files: Mapping[str, Path]) -> None:
    """Each run has an interpreter of its own, whose sizes and inputs no other run sets meanwhile."""
    model = load_model(ModelSpec("m", str(files["dependent"])))
    run = model.callable("serving_default")
    sizes = [RNG.standard_normal((rows, 3)).astype(np.float32) for rows in (1, 200_000, 70_000, 5)]
    wanted = [run(x)[0] for x in sizes]
    wrong: list[object] = []

    def call(number: int) -> None:
        try:
            wrong.extend(
                number for _ in range(20) if not np.array_equal(run(sizes[number])[0], wanted[number])
            )
        except worker_client.ModelFailed as error:
            wrong.append(error)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(len(sizes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    model.close()
    assert not wrong


def test_state_is_shared(client: Client, broker: TestBroker) -> None:
    """What one call writes, the next one reads, of whichever worker and signature; once for each call, in order."""
    add, get = client.model("counter", signature="add"), client.model("counter", signature="get")
    zeros = np.zeros(2, np.float32)
    np.testing.assert_array_equal(get.predict(zeros), zeros)  # warm-up has not counted
    with worker_client.connect(broker.address) as other:
        for number in range(1, 5):
            caller = (client if number % 2 else other).model("counter", signature="add")
            np.testing.assert_array_equal(caller.predict(np.array([1, 2], np.float32)), [number, 2 * number])
    np.testing.assert_array_equal(get.predict(zeros), [4, 8])
    np.testing.assert_array_equal(client.model("counter", signature="plain").predict(zeros + 1), [-1, -1])
    stats = broker.status()["models"]["counter"]
    assert stats["add"]["stateful"] == "writes a variable (ASSIGN_VARIABLE)"
    assert not stats["get"]["stateful"]
    assert add.signature.name == "add"


def test_a_wrong_shape_is_refused_by_name(client: Client) -> None:
    """A file with fixed sizes takes no others."""
    with pytest.raises(InvalidInput, match="'x'"):
        client.model("fixed").predict(ROWS[:3, :4])


def test_no_session(client: Client) -> None:
    """It has no graph of TensorFlow's: the error says so, and what to do."""
    with pytest.raises(InvalidInput, match=r"is a LiteRT file .* call it with client\.model"):
        client.session("float").run("y:0", {"x:0": ROWS})


def test_the_next_version_takes_over(files: Mapping[str, Path], tmp_path: Path) -> None:
    """Numbered folders hold one file each; an unfinished one leaves the version in service that is there."""
    (tmp_path / "m" / "1").mkdir(parents=True)
    shutil.copy(files["dependent"], tmp_path / "m" / "1" / "model.tflite")
    x = ROWS[:, :3]
    with serving(models={"m": tmp_path / "m"}) as broker, worker_client.connect(broker.address) as client:
        model = client.model("m")
        assert model.predict(x).shape == (7, 3)
        (tmp_path / "m" / "2").mkdir()
        shutil.copy(files["two"], tmp_path / "m" / "2" / "model.tflite")
        outcome = ask(broker.address, "reload", 60, models=["m"])["models"]["m"]
        assert (outcome["loaded"], outcome["unloaded"]) == ([2], [1])
        total = client.model("m", signature="sums").predict(x)["total"]
        np.testing.assert_array_equal(total, Own(files["two"])("sums", x=x)["total"])
        (tmp_path / "m" / "3").mkdir()
        (tmp_path / "m" / "3" / "model.tflite").write_bytes(files["two"].read_bytes()[:700])
        outcome = ask(broker.address, "reload", 60, models=["m"])["models"]["m"]
        assert "is damaged or cut off" in outcome["failed"]["3"]
        np.testing.assert_array_equal(client.model("m", signature="sums").predict(x)["total"], total)


def test_a_file_overwritten_in_place_changes_no_answer(files: Mapping[str, Path], tmp_path: Path) -> None:
    """Until it is reloaded: the broker has read it, and maps nothing."""
    path = tmp_path / "m.tflite"
    shutil.copy(files["float"], path)
    with serving(models={"m": path}) as broker, worker_client.connect(broker.address) as client:
        before = client.model("m").predict(ROWS)
        path.write_bytes(b"")
        np.testing.assert_array_equal(client.model("m").predict(ROWS), before)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("flex", r"runs ops of TensorFlow \(MatrixInverse\), which the interpreter does not have"),
        ("custom", "Encountered unresolved custom op: MatrixInverse"),
    ],
)
def test_ops_that_the_interpreter_lacks(files: Mapping[str, Path], kind: str, says: str) -> None:
    """They are named, in one line with the remedy."""
    with pytest.raises(ModelLoadError, match=says) as caught:
        load_model(ModelSpec("m", str(files[kind])))
    assert "\n" not in str(caught.value)
    assert "Convert it with built-in ops only" in str(caught.value)


def test_a_damaged_file(files: Mapping[str, Path], tmp_path: Path) -> None:
    """However much of it is missing, it is refused with one line, before an interpreter reads where it points to."""
    content = files["int8"].read_bytes()
    path = tmp_path / "m.tflite"
    for size in [*range(0, 40, 3), *range(40, len(content) - 1, 97)]:
        path.write_bytes(content[:size])
        with pytest.raises(ModelLoadError, match="is damaged") as caught:
            load_model(ModelSpec("m", str(path)))
        assert "\n" not in str(caught.value)


def test_settings_that_name_tensors(files: Mapping[str, Path]) -> None:
    """A file has signatures; the settings of graphs are refused, not ignored."""
    with pytest.raises(ModelLoadError, match="inputs and outputs name tensors of a graph"):
        load_model(ModelSpec("m", str(files["float"]), outputs=("y=y:0",)))


def test_an_unloaded_model_says_so(files: Mapping[str, Path]) -> None:
    """Its callables raise; a signature that it does not have is refused with those that it has."""
    model = load_model(ModelSpec("m", str(files["counter"])))
    with pytest.raises(ModelNotFound, match="it has add, get, plain"):
        model.callable("gone")
    zeros = np.zeros(2, np.float32)
    for name in ("get", "plain"):
        run = model.callable(name)
        np.testing.assert_array_equal(run(zeros)[0], zeros)
    model.close()
    model.close()
    for name in ("get", "plain"):
        with pytest.raises(worker_client.ModelFailed, match="unloaded"):
            model.callable(name)(zeros)
