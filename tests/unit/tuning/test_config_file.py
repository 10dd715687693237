"""A configuration file after something was written into it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from broker.models.spec import ModelSpec
from broker.tuning.config_file import write
from worker_client.wire.errors import InvalidInput

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TUNED = ModelSpec(
    "digits",
    "models/digits",
    intra_op_threads=1,
    max_concurrency=2,
    caller_thread=True,
    max_batch_size=8,
)
WRITTEN = {
    "source": "models/digits",
    "intra_op_threads": 1,
    "max_concurrency": 2,
    "caller_thread": True,
    "max_batch_size": 8,
}


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text())


def test_a_new_file(tmp_path: Path):
    """It is made, and others may read it."""
    path = tmp_path / "broker.toml"
    write(path, [TUNED], onednn=False)
    assert read(path) == {"onednn": "off", "models": {"digits": WRITTEN}}
    assert [entry.name for entry in tmp_path.iterdir()] == ["broker.toml"]


def test_all_else_stays_as_it_is(tmp_path: Path):
    """Comments, other keys, other models, the order, the permissions, and a link to the file."""
    real, path = tmp_path / "real.toml", tmp_path / "broker.toml"
    real.write_text(
        """# ours
name = "main"  # the address

[models.other]
source = "models/other"

[models.digits]
# as agreed
source = "models/digits"
max_delay = 0.002   # seconds
max_batch_size = 64
"""
    )
    real.chmod(0o640)
    path.symlink_to(real)
    write(path, [TUNED], onednn=True)
    text = real.read_text()
    for line in ("# ours", 'name = "main"  # the address', "# as agreed", "max_delay = 0.002   # seconds"):
        assert line in text
    assert read(path) == {
        "name": "main",
        "onednn": "on",
        "models": {"other": {"source": "models/other"}, "digits": {**WRITTEN, "max_delay": 0.002}},
    }
    assert path.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    write(path, [TUNED], onednn=True)
    assert real.read_text() == text


def test_a_model_given_by_its_source_becomes_a_table(tmp_path: Path):
    """`digits = "models/digits"` has no room for settings."""
    path = tmp_path / "broker.toml"
    path.write_text('[models]\ndigits = "models/digits"\nother = "models/other"\n')
    write(path, [TUNED], onednn=None)
    assert read(path) == {"models": {"digits": WRITTEN, "other": "models/other"}}


def test_an_inline_table_is_kept(tmp_path: Path):
    """Whatever way a table is written."""
    path = tmp_path / "broker.toml"
    path.write_text('models = { digits = { source = "x", timeout = 1 } }\n')
    write(path, [TUNED], onednn=None)
    assert read(path) == {"models": {"digits": {**WRITTEN, "timeout": 1}}}


def test_allowed_batch_sizes_are_the_limit_already(tmp_path: Path):
    """Beside a list of sizes no other limit is written."""
    path = tmp_path / "broker.toml"
    path.write_text('[models.digits]\nsource = "x"\nallowed_batch_sizes = [8, 32]\n')
    write(path, [TUNED], onednn=None)
    assert "max_batch_size" not in read(path)["models"]["digits"]


def test_what_was_not_found_is_not_written(tmp_path: Path):
    """A setting that stays the broker's own leaves what stands there."""
    path = tmp_path / "broker.toml"
    path.write_text("[models.digits]\nmax_batch_size = 16\n")
    write(path, [ModelSpec("digits", "models/digits", intra_op_threads=1)], onednn=None)
    assert read(path)["models"]["digits"] == {
        "source": "models/digits",
        "intra_op_threads": 1,
        "max_batch_size": 16,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [("models = 7\n", "`models` is not a table of models"), ("[models\n", "is not a TOML file")],
)
def test_a_file_with_something_else_in_it(tmp_path: Path, text: str, said: str):
    """It is refused and left alone."""
    path = tmp_path / "broker.toml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=said):
        write(path, [TUNED], onednn=True)
    assert path.read_text() == text


def test_a_folder_that_is_not_there(tmp_path: Path):
    """The caller tells it as it tells other files that cannot be written."""
    with pytest.raises(OSError, match="No such file"):
        write(tmp_path / "none" / "broker.toml", [TUNED], onednn=None)
    assert os.listdir(tmp_path) == []
