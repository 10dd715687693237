"""Who imports whom: what import-linter cannot see, and what is really loaded in a fresh interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HEAVY = {"tensorflow", "keras"}
BROKER_ONLY = {"broker", "click", "rich", "psutil", "prometheus_client", "tomli", "tomlkit"}
# ml_dtypes comes with TensorFlow: a worker uses it (bfloat16) where it is there and does without where it is not.
# gevent is waited for where an app has patched the process with it, and is not touched elsewhere.
ONLY_IF_THERE = {"ml_dtypes", "gevent"}
# Of one module each, which is imported only where an app is of that kind.
OPTIONAL = {
    "green/hubs.py": {"gevent", "eventlet", "greenlet"},
    "green/channel.py": {"gevent"},
    "system/patched.py": {"gevent"},
    "otel.py": {"opentelemetry"},
}
SHARED = ("ipc", "interpreter", "system", "wire")
"""The folders of the client that the broker stands on as well, the uppermost first."""
WORKER_MAY_IMPORT = {
    "worker_client",
    "numpy",
    "posix_ipc",
    "msgpack",
    *ONLY_IF_THERE,
    *sys.stdlib_module_names,
}

LOADED_BY = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
if "--with-submodules" in sys.argv:
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
print(*{name.partition(".")[0] for name in sys.modules})
"""


def modules(package: str) -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py"))


def imported_names(path: Path) -> Iterator[str]:
    """Every module that `path` names in an import, wherever it stands, and in a call that imports by a string."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(), str(path))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(names=names):
                yield from (f"{source(path, node)}.{alias.name}" for alias in names)
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name


def source(path: Path, node: ast.ImportFrom) -> str:
    """The absolute name of the module that `node` in `path` imports from."""
    if not node.level:
        return node.module or ""
    package = path.parts[: len(path.parts) - node.level]
    return ".".join((*package, node.module) if node.module else package)


def top_level(names: Iterator[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def loaded_by(*arguments: str) -> set[str]:
    command = [sys.executable, "-c", LOADED_BY, *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_there_are_modules_to_check():
    """The tests below check something: both packages are found from here."""
    assert modules("worker_client")
    assert modules("broker")


def test_a_worker_pays_for_no_event_loop():
    """Each worker has its own copy of what it imports; asyncio alone, with ssl and subprocess, takes 3 MB."""
    assert not {"asyncio", "ssl", "subprocess"} & loaded_by("worker_client")


@pytest.mark.parametrize("path", modules("worker_client"), ids=str)
def test_a_worker_module_imports_base_dependencies_only(path):
    """A worker needs the standard library, numpy, posix_ipc, msgpack; a few modules serve what is asked for by name."""
    assert (
        top_level(imported_names(path))
        - WORKER_MAY_IMPORT
        - OPTIONAL.get(path.relative_to("worker_client").as_posix(), set())
        == set()
    )


@pytest.mark.parametrize("number", range(len(SHARED)), ids=SHARED)
def test_what_both_sides_share_stands_alone(number):
    """What both sides agree on and stand on knows neither side, and of itself only the folders below."""
    known = tuple(f"worker_client.{folder}." for folder in SHARED[number:])
    for path in modules(f"worker_client/{SHARED[number]}"):
        ours = {
            name for name in imported_names(path) if name.partition(".")[0] in ("worker_client", "broker")
        }
        assert {n for n in ours if not f"{n}.".startswith(known)} == set(), path


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import tensorflow.compat.v1 as tf", "tensorflow.compat.v1"),
        ("from . import ring", "worker_client.ipc.ring"),
        ("from .ring import Ring", "worker_client.ipc.ring.Ring"),
        ("from ..client import Client", "worker_client.client.Client"),
        ("def f():\n    from broker import cli", "broker.cli"),
        ("tf = importlib.import_module('tensorflow')", "tensorflow"),
    ],
)
def test_each_form_of_import_is_seen(tmp_path, monkeypatch, line, name):
    """The checks in this file miss no way to import a module by a fixed name."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = Path("worker_client/ipc/slot.py")
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(line)
    assert list(imported_names(path)) == [name]


def test_one_module_names_tensorflow():
    """TensorFlow is imported in broker/models/tf/runtime.py only, by statement or by string."""
    users = {
        str(p)
        for p in (*modules("broker"), *modules("worker_client"))
        if top_level(imported_names(p)) & HEAVY
    }
    assert users <= {"broker/models/tf/runtime.py"}


def test_a_worker_loads_neither_tensorflow_nor_the_broker():
    """Importing the client, every module of it, loads nothing that belongs to the broker."""
    assert loaded_by("worker_client", "--with-submodules") & (HEAVY | BROKER_ONLY | {"gevent"}) == set()


def test_importing_the_broker_loads_no_tensorflow():
    """`from broker import Broker` is safe before a fork: TensorFlow is loaded by the process that serves."""
    assert loaded_by("broker.api") & HEAVY == set()
