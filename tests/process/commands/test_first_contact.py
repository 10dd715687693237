"""The first use after an installation: without the extras, without TensorFlow, beside a `broker.py`."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client
from broker import Broker, __version__
from tests.commands import PATIENCE_S, ROOT
from tests.nodes import RIGHT, node

WORKER = ("numpy", "posix_ipc", "msgpack")
EXTRA = ("click", "rich", "markdown_it", "mdurl", "pygments", "prometheus_client", "tomlkit", "tomli")
MODEL = """
import numpy as np
from broker import signature

@signature(inputs={"x": ("float32", [None, 2])}, outputs={"y": ("float32", [None, 2])})
def double(x):
    return x * 2
"""
CALL = """
import sys
import numpy as np
import worker_client
print(worker_client.connect().model("double").predict(np.ones((1, 2), "float32")), "tensorflow" in sys.modules)
"""
THEIRS = "raise SystemExit('an app has modules of its own')\n"


def installed(place: Path, packages: Sequence[str]) -> dict[str, str]:
    """An environment of these packages, as they are installed here, and of ours."""
    site = place / "site"
    site.mkdir()
    for package in packages:
        found = importlib.util.find_spec(package)
        if found is None:  # tomli, where Python has tomllib
            continue
        assert found.origin is not None
        path = Path(found.origin)
        paths = [path.parent] if path.name == "__init__.py" else [path]
        paths += path.parents[1].glob(f"{package}.libs")
        for each in paths:
            (site / each.name).symlink_to(each)
    for package in ("broker", "worker_client"):
        (site / package).symlink_to(ROOT / package)
    return {**os.environ, "PYTHONPATH": os.fspath(site), "PYTHONDONTWRITEBYTECODE": "1"}


def program(place: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`-S`: without this environment's own packages."""
    return subprocess.run(
        [sys.executable, "-S", "-m", "broker", *arguments],
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments", [(), ("--help",), ("status",), ("run", "--model", "a=b:c", "--", "true")]
)
def test_without_the_extras_one_line_names_them(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = program(tmp_path, installed(tmp_path, WORKER), *arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "needs click, which is not installed: pip install 'onesession[tensorflow]'" in line
    assert done.stdout == ""


def test_the_version_needs_nothing(tmp_path: Path) -> None:
    done = program(tmp_path, installed(tmp_path, WORKER), "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"onesession, version {__version__}\n", "")
    assert program(tmp_path, dict(os.environ), "--version").stdout == ""  # `-S`: ours are not there


def test_files_of_tensorflow_serving_need_protobuf(tmp_path: Path) -> None:
    """It comes with TensorFlow, and with no extra of ours."""
    (tmp_path / "models.config").write_text("model_config_list {}")
    environment = installed(tmp_path, (*WORKER, *EXTRA))
    done = program(tmp_path, environment, "config", "import-tfs", "models.config")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "read with protobuf, which is not installed: pip install 'onesession[tensorflow]'" in line


def test_a_function_needs_no_tensorflow(tmp_path: Path) -> None:
    environment = installed(tmp_path, (*WORKER, *EXTRA))
    (tmp_path / "mine.py").write_text(MODEL)
    address = os.fspath(tmp_path / "b")
    call = (sys.executable, "-S", "-c", CALL)
    done = program(
        tmp_path, environment, "run", "--name", address, "--model", "double=mine:double", "--", *call
    )
    assert (done.returncode, done.stdout) == (0, "[[2. 2.]] False\n"), done.stderr


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Its folder, where modules are called as ours are."""
    (tmp_path / "mine.py").write_text(MODEL)
    (tmp_path / "broker.py").write_text(THEIRS)
    (tmp_path / "worker_client").mkdir()
    (tmp_path / "worker_client/__init__.py").write_text(THEIRS)
    return tmp_path


def test_an_app_that_has_a_broker_of_its_own_runs_under_ours(app: Path) -> None:
    command = Path(sys.executable).with_name("onesession")
    call = (sys.executable, "-c", f"import sys; sys.path[0] = {os.fspath(ROOT)!r}\n{CALL}")
    done = subprocess.run(
        [command, "run", "--name", app / "b", "--model", "double=mine:double", "--", *call],
        cwd=app,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[[2. 2.]] False\n"), done.stderr


@pytest.mark.parametrize(
    "options", [{}, {"supervise": True}, {"tune": "auto"}], ids=["plain", "supervised", "tuned"]
)
def test_an_app_that_has_a_broker_of_its_own_starts_ours(
    app: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.chdir(app)
    monkeypatch.syspath_prepend(app)
    with (
        Broker(models={"double": "mine:double"}, name=os.fspath(app / "b"), **options) as broker,
        worker_client.connect(broker.address) as client,
    ):
        answer = client.model("double").predict(np.ones((1, 2), np.float32))
    np.testing.assert_array_equal(answer, [[2, 2]])


def test_an_app_that_has_a_broker_of_its_own_shares_ours(app: Path) -> None:
    before = f"import sys, broker.control_plane.query, worker_client.node; sys.path.insert(0, {os.fspath(app)!r})\n"
    with node() as here:
        answer = here.call(before=before)
        assert answer.get("y") == RIGHT, answer
        here.wait_for_end()
