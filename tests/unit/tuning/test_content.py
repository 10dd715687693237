"""When two directories hold the same model."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from broker.tuning.content import content_digest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    (path / "variables").mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"\x0a\x05graph" * 1000)
    (path / "fingerprint.pb").write_bytes(b"1")
    (path / "variables" / "variables.index").write_bytes(b"names and checksums")
    (path / "variables" / "variables.data-00000-of-00001").write_bytes(b"\0" * 4096)
    return path


def test_a_copy_is_the_same_model(model: Path, tmp_path: Path):
    """Wherever it lies and whenever it was written; TensorFlow's own fingerprint differs for each export."""
    copy = Path(shutil.copytree(model, tmp_path / "other"))
    os.utime(copy / "saved_model.pb", (1, 1))
    (copy / "fingerprint.pb").write_bytes(b"2")
    assert content_digest(copy) == content_digest(model)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("saved_model.pb", b"other" * 1000),
        ("variables/variables.index", b"names and checksumS"),
        ("variables/variables.data-00000-of-00001", b"\0" * 4097),
        ("assets/vocabulary.txt", b"a"),
    ],
)
def test_any_change_makes_another_model(model: Path, name: str, content: bytes):
    """Another graph, other weights (the index has their checksums), another asset."""
    before = content_digest(model)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_bytes(content)
    assert content_digest(model) != before
