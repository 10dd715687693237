"""Inputs made from a signature or read from a file, and answers compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.bench import inputs
from broker.bench.answers import WrongAnswer, check
from worker_client.wire.dtypes import STRING
from worker_client.wire.errors import InvalidInput
from worker_client.wire.signature import Signature, TensorSpec

F32, I64 = np.dtype("float32"), np.dtype("int64")


def signature(*specs: TensorSpec) -> Signature:
    return Signature("serving_default", specs, (TensorSpec("y", F32, (None, 2)),))


TWO = signature(TensorSpec("x", F32, (None, 3)), TensorSpec("ids", I64, (None, None)))
ONE = signature(TensorSpec("x", F32, (None, 3)))
WHOLE = signature(TensorSpec("x", F32, (2, None)))


def test_made_inputs_fit_the_signature_and_are_the_same_for_a_seed() -> None:
    found = inputs.made(TWO, 5, {"ids": (7,)})(4)
    again = inputs.made(TWO, 5, {"ids": (7,)})(4)
    assert len(found) == inputs.MOST_INPUTS
    for one, other in zip(found, again):
        assert {name: (a.dtype, a.shape) for name, a in one.items()} == {
            "x": (F32, (4, 3)),
            "ids": (I64, (4, 7)),
        }
        assert all((one[name] == other[name]).all() for name in one)
    assert not (found[0]["x"] == found[1]["x"]).all()


def test_made_inputs_without_rows_have_the_whole_shape() -> None:
    assert not inputs.has_rows(WHOLE)
    assert inputs.made(WHOLE, 1, {})(0)[0]["x"].shape == (2, inputs.FREE_SIZE)


def test_made_strings_are_bytes() -> None:
    found = inputs.made(signature(TensorSpec("t", STRING, (None,))), 1, {})(2)[0]["t"]
    assert found.shape == (2,)
    assert all(isinstance(text, bytes) for text in found)


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ({"z": (1,)}, "--shape z: the model has the inputs x, ids"),
        ({"x": (4,)}, "--shape x=4: the input is float32[?, 3]"),
    ],
)
def test_a_shape_that_does_not_fit_is_told(shapes: dict[str, tuple[int, ...]], told: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        inputs.made(TWO, 1, shapes)
    assert told in str(caught.value)


def test_what_only_the_user_can_know_is_asked_for() -> None:
    with pytest.raises(InvalidInput, match="--input"):
        inputs.made(signature(TensorSpec("x", F32, None)), 1, {})
    with pytest.raises(InvalidInput, match="row_splits"):
        inputs.made(signature(TensorSpec("s", I64, (None,), "row_splits of ragged 'words'")), 1, {})


def test_a_file_is_cut_into_requests_in_its_order_and_from_the_beginning_again(tmp_path: Path) -> None:
    x = np.arange(15, dtype=F32).reshape(5, 3)
    np.save(tmp_path / "x.npy", x)
    make = inputs.from_file(tmp_path / "x.npy", ONE)
    assert [a["x"].tolist() for a in make(2)] == [x[0:2].tolist(), x[2:4].tolist()]
    assert make(7)[0]["x"].tolist() == np.concatenate([x, x[:2]]).tolist()


def test_files_of_each_kind_give_the_same(tmp_path: Path) -> None:
    arrays = {"x": np.ones((2, 3), F32), "ids": np.zeros((2, 4), I64)}
    np.savez(tmp_path / "i.npz", **arrays)
    np.savez(tmp_path / "w.npz", **{f"serving_default/{name}": array for name, array in arrays.items()})
    (tmp_path / "i.json").write_text(json.dumps({name: array.tolist() for name, array in arrays.items()}))
    for name in ("i.npz", "w.npz", "i.json"):
        (found,) = inputs.from_file(tmp_path / name, TWO)(2)
        assert all(
            (found[key] == arrays[key]).all() and found[key].dtype == arrays[key].dtype for key in arrays
        )


def test_a_single_row_may_leave_its_first_dimension_out(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones(3, F32))
    assert inputs.from_file(tmp_path / "x.npy", ONE)(2)[0]["x"].shape == (2, 3)


def test_texts_of_a_file_become_bytes(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('["a", "bé"]')
    (found,) = inputs.from_file(tmp_path / "t.json", signature(TensorSpec("t", STRING, (None,))))(2)
    assert found["t"].tolist() == [b"a", "bé".encode()]


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x": np.ones((1, 3), F32)}, "has x; the model takes x, ids"),
        (
            {"x": np.ones((1, 3)), "ids": np.ones((1, 1), I64)},
            "wants dtype float32, got float64; store it with .astype(",
        ),
        ({"x": np.ones((1, 4), F32), "ids": np.ones((1, 1), I64)}, "wants shape [?, 3], got [1, 4]"),
        ({"x": np.ones((2, 3), F32), "ids": np.ones((1, 1), I64)}, "x has 2, ids has 1"),
        ({"x": np.ones((0, 3), F32), "ids": np.ones((0, 1), I64)}, "at least one"),
    ],
)
def test_a_file_that_does_not_fit_is_told_with_what_was_expected(
    tmp_path: Path, arrays: dict[str, Any], told: str
) -> None:
    np.savez(tmp_path / "i.npz", **arrays)
    with pytest.raises(InvalidInput) as caught:
        inputs.from_file(tmp_path / "i.npz", TWO)
    assert told in str(caught.value)
    assert "i.npz" in str(caught.value)


@pytest.mark.parametrize("name", ["i.npz", "i.npy", "i.json", "i.txt"])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{nothing")
    with pytest.raises(InvalidInput, match=r"i\."):
        inputs.from_file(tmp_path / name, ONE)


# --- answers ---


def compare(expected: Any, got: Any) -> None:
    check({"y": np.asarray(expected)}, {"y": np.asarray(got)}, 1e-4, "input 1")


def test_numbers_may_differ_by_the_tolerance_and_nothing_else_may() -> None:
    compare(np.array([1.0, 1000.0, np.nan, np.inf], F32), np.array([1.05, 1000.05, np.nan, np.inf], F32))
    compare(np.array([b"a"], object), np.array([b"a"], object))
    for expected, got in (
        (np.array([1.0], F32), np.array([1.001], F32)),
        (np.array([np.inf], F32), np.array([1.0], F32)),
        (np.array([1.0], F32), np.array([1.0])),
        (np.ones((1, 2), F32), np.ones((2, 1), F32)),
        (np.array([1], I64), np.array([2], I64)),
        (np.array([b"a"], object), np.array([b"b"], object)),
    ):
        with pytest.raises(WrongAnswer, match="input 1: output 'y'"):
            compare(expected, got)
