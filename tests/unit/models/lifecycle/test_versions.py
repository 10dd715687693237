"""Which versions there are in a folder, which a policy wants, and what counts as a change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker.models.errors import ModelLoadError
from broker.models.lifecycle.loading import load_first, taken_over
from broker.models.lifecycle.repository import load
from broker.models.lifecycle.served_model import ServedModel
from broker.models.lifecycle.version import VersionState
from broker.models.spec import ModelSpec
from broker.models.version_policy import Policy, fingerprint, numbered
from tests.models.versions_on_disk import Versions
from worker_client.wire.errors import InvalidInput


@pytest.mark.parametrize(
    ("value", "chosen", "said"),
    [
        ("latest", [7], "latest"),
        ("latest:1", [7], "latest"),
        ("latest:2", [5, 7], "latest:2"),
        ("latest:9", [1, 5, 7], "latest:9"),
        ("all", [1, 5, 7], "all"),
        ("5", [5], (5,)),
        ("7,1", [1, 7], (1, 7)),
        (1, [1], (1,)),
        ([5, 2, 5], [5], (2, 5)),
        ((3,), [], (3,)),
    ],
)
def test_a_policy_chooses(value: object, chosen: list[int], said: object) -> None:
    """In ascending order, of versions that are there; and it can be written down again."""
    policy = Policy.of(value)
    assert policy.choose([7, 1, 5]) == chosen
    assert policy.to_value() == said
    assert Policy.of(policy.to_value()) == policy


@pytest.mark.parametrize(
    "value", ["", "newest", "latest:0", "latest:", "-1", "1,", [], [True], [-1], None, 1.5, {}]
)
def test_what_is_no_policy(value: object) -> None:
    with pytest.raises(ValueError, match="is not 'latest'"):
        Policy.of(value)


def test_a_folder_of_versions(tmp_path: Path) -> None:
    """Directories with numbers for names; a model itself is none, and neither is a folder of other things."""
    for name in ("3", "010", "1", "x", ".coming.4"):
        (tmp_path / name).mkdir()
    (tmp_path / "7").touch()
    assert numbered(str(tmp_path)) == {1: tmp_path / "1", 3: tmp_path / "3", 10: tmp_path / "010"}
    for one_model in ("saved_model.pb", "model.py"):
        (tmp_path / one_model).touch()
        assert numbered(str(tmp_path)) is None
        (tmp_path / one_model).unlink()
    assert numbered(str(tmp_path / "x")) == {}
    assert numbered(str(tmp_path / "nothing")) is None
    assert numbered("module:function") is None


def test_a_fingerprint_changes_with_any_file(tmp_path: Path) -> None:
    """By name, size or time; byte code that Python writes is none of the model's."""
    (tmp_path / "a").mkdir()
    assert fingerprint(tmp_path) == "" == fingerprint(tmp_path / "nothing")
    file = tmp_path / "a" / "weights"
    file.write_text("1")
    seen = {fingerprint(tmp_path)}
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").touch()
    assert fingerprint(tmp_path) in seen
    file.write_text("12")
    seen.add(fingerprint(tmp_path))
    os.utime(file, ns=(1, 1))
    seen.add(fingerprint(tmp_path))
    file.rename(file.with_name("other"))
    seen.add(fingerprint(tmp_path))
    assert len(seen) == 4


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    made = Versions(tmp_path / "m")
    made.add(1)
    made.add(2)
    return made


def test_at_the_start_a_lower_version_stands_in(versions: Versions) -> None:
    """For one that cannot be loaded, which is told; with numbers given, those and no others are served."""
    versions.add(3, before="raise RuntimeError('damaged')")
    served = load([ModelSpec("m", versions.source)]).served["m"]
    assert {version.number: version.state for version in served.versions} == {
        2: VersionState.AVAILABLE,
        3: VersionState.END,
    }
    assert "damaged" in next(version.cause for version in served.versions if version.number == 3)
    with pytest.raises(ModelLoadError, match="damaged"):
        load([ModelSpec("m", versions.source, versions=3)])
    with pytest.raises(ModelLoadError, match=r"none of its versions 1, 2, 3 is one of \[8\]"):
        load_first(ServedModel(ModelSpec("m", versions.source, versions=[8])))


def test_labels_are_served_as_well(versions: Versions) -> None:
    """A version that a label stands for is loaded, beside those that the policy wants."""
    spec = ModelSpec("m", versions.source, labels={"stable": 1, "gone": 9})
    repository = load([spec])
    told = repository.describe()["m"]
    assert told["version"] == 2
    assert {label: (each["version"], each["state"]) for label, each in told["labels"].items()} == {
        "stable": (1, "AVAILABLE"),
        "gone": (9, "END"),
    }
    (stable,) = told["labels"]["stable"]["signatures"]
    (first,) = told["versions"][0]["signatures"]
    table = repository.table()
    assert table[stable["id"]] is table[first["id"]]
    assert stable["id"] != first["id"]
    assert (
        len({number for number, entry in enumerate(table) if entry is not None}) == 4
    )  # 2 own, latest, stable


@pytest.mark.parametrize("labels", [{"1": 1}, {"a b": 1}, {"a": "1"}, {"a": -1}, {"a": True}, [1], {1: 1}])
def test_what_is_no_label(labels: object) -> None:
    with pytest.raises(InvalidInput, match="labels must be a mapping of names to version numbers"):
        ModelSpec("m", "s", labels=labels)  # type: ignore[arg-type]


def test_a_version_takes_over_what_was_found_for_the_one_before() -> None:
    """Where it has no measurement of its own, and nothing is set by hand."""
    before = ModelSpec("m", "1", intra_op_threads=1, max_concurrency=2, caller_thread=True, max_batch_size=16)
    assert taken_over(ModelSpec("m", "2"), before) == ModelSpec(
        "m", "2", intra_op_threads=1, max_concurrency=2, caller_thread=True, max_batch_size=16
    )
    assert taken_over(ModelSpec("m", "2", intra_op_threads=4), before).intra_op_threads == 4
    assert taken_over(ModelSpec("m", "2"), None) == ModelSpec("m", "2")
    allowed = ModelSpec("m", "2", allowed_batch_sizes=(8, 16, 32))
    before = ModelSpec("m", "1", allowed_batch_sizes=(8, 16), max_batch_size=16)
    assert taken_over(allowed, before).allowed_batch_sizes == (8, 16)
