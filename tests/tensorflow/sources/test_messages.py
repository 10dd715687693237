"""Model files that cannot be used, as the command that serves them tells it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.models.errors import ModelLoadError
from broker.models.files import damage, no_space
from broker.models.files.locate import locate
from broker.models.spec import ModelSpec
from tests import brokers
from tests.commands import ROOT, commands
from tests.process.broker.test_limits import CAN_MOUNT


@pytest.fixture
def start() -> Iterator[Any]:
    with brokers.folder() as place, commands(place) as start:
        yield start


def damaged(place: Path, kind: str) -> Path:
    if kind == "SavedModel":
        (place / "m").mkdir()
        (place / "m" / "saved_model.pb").write_bytes(b"garbage")
        return place / "m"
    path = place / ("m.keras" if kind == "Keras" else "m.pb")
    path.write_bytes(b"PK\3\4garbage" if kind == "Keras" else b"garbage")
    return path


@pytest.mark.parametrize("kind", ["SavedModel", "Keras", "frozen"])
def test_a_damaged_file_is_found_before_tuning_and_told_once(start: Any, tmp_path: Path, kind: str) -> None:
    path = damaged(tmp_path, kind)
    status, _, said = start("run", "--model", f"m={path}", "--", "true").end()
    assert status == 1
    assert "tuning" not in said
    assert said.count("cannot be loaded") == 1
    assert said.splitlines()[-1].startswith(f"Error: model 'm' from '{path}' cannot be loaded: ")


def test_whole_files_are_no_damaged_ones(mlp_path: Path) -> None:
    damage.check(ModelSpec("m", os.fspath(mlp_path)), mlp_path)


KERAS = """
import sys
from pathlib import Path
from broker.models.errors import ModelLoadError
from broker.models.sources import keras_file
from broker.models.spec import ModelSpec
try:
    with keras_file.exported(ModelSpec("m", sys.argv[1]), Path(sys.argv[1])):
        print("exported")
except ModelLoadError as error:
    print(error)
"""


@pytest.mark.skipif(not CAN_MOUNT, reason="needs a mount namespace of its own")
def test_no_space_is_left_in_the_cache(tmp_path: Path) -> None:
    """What Keras raises then says neither which disk it is nor how to use another."""
    make = "import keras, sys; keras.Sequential([keras.Input((400,)), keras.layers.Dense(400)]).save(sys.argv[1])"
    model, cache = tmp_path / "m.keras", tmp_path / "cache"
    cache.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.fspath(ROOT), "XDG_CACHE_HOME": os.fspath(cache)}
    subprocess.run([sys.executable, "-c", make, model], env=environment, capture_output=True, check=True)
    done = subprocess.run(
        [
            *(
                "unshare",
                "-m",
                "sh",
                "-c",
                'mount -t tmpfs -o size=100k tmpfs "$1" && exec "$2" -c "$3" "$4"',
            ),
            *("sh", cache, sys.executable, KERAS, model),
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = done.stdout.splitlines()
    assert f"cannot be loaded: no space is left in {cache}/onesession, into which Keras exports it. " in line
    assert line.endswith("Make room there, or set XDG_CACHE_HOME to a folder that has it")


def test_no_space_is_left_for_temporary_files(tmp_path: Path) -> None:
    error = RuntimeError("{{node}} No space left on device [Op:SaveV2]")
    told = no_space.problem_with(error, tmp_path / "onesession-keras-x" / "model")
    assert told is not None
    assert told.cause == f"no space is left in {tmp_path}, into which Keras exports it"
    assert "TMPDIR" in told.remedy
    assert no_space.problem_with(RuntimeError("Lambda"), tmp_path) is None


READ_ONLY = """
for folder in /tmp /var/tmp; do mount --bind $folder $folder && mount -o remount,bind,ro $folder || exit; done
mount -o remount,bind,ro / && exec "$@"
"""
LOAD = """
import sys
from broker.models.errors import ModelLoadError
from broker.models.lifecycle.loading import load
from broker.models.lifecycle.version import Version
from broker.models.spec import ModelSpec
for source in sys.argv[1:]:
    try:
        load(version := Version(1, ModelSpec("m", source)))
        print("loaded", *version.model.signatures)
    except ModelLoadError as error:
        print(error)
"""


@pytest.mark.skipif(not CAN_MOUNT, reason="needs a mount namespace of its own")
def test_no_folder_for_temporary_files(tmp_path: Path, mlp_path: Path) -> None:
    """In a container with a read-only file system SavedModels are served as ever; what Keras must export is refused."""
    make = "import keras, sys; keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)]).save(sys.argv[1])"
    model = tmp_path / "m.keras"
    subprocess.run([sys.executable, "-c", make, model], capture_output=True, check=True)
    done = subprocess.run(
        [
            *("unshare", "-m", "sh", "-c", READ_ONLY),
            *("sh", sys.executable, "-c", LOAD, mlp_path, model),
        ],
        env={**os.environ, "PYTHONPATH": os.fspath(ROOT), "TMPDIR": "/nowhere", "XDG_CACHE_HOME": "/nowhere"},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    served, refused = done.stdout.splitlines()
    assert served == "loaded serving_default"
    assert refused.startswith(
        f"model 'm' from '{model}' cannot be loaded: Keras needs a folder to export it into: "
    )
    assert refused.endswith("to a folder that can be written (docker run --tmpfs /tmp)")


def test_a_url_of_a_file_is_told_to_be_written_as_a_path(mlp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=rf"is a path, not a URL. Write {mlp_path}$"):
        locate(ModelSpec("m", mlp_path.as_uri()))
