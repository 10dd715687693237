"""Converts Keras files (.keras, .h5) to SavedModels, which the broker then serves like any other.

Keras is loaded in a separate process: tracing a large model takes seconds of Python code, during which no other thread
of the broker would run. The result is kept in the cache under the digest of the file and of the versions.

    this process -- {"path", "target", "imports"} -->  the child's stdin
                 <-- {} or {"error": why} -----------  its stdout; what libraries print goes to stderr
                     or {"cause", "remedy"}
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import inspect
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from broker.models.cache_folder import cache_folder
from broker.models.errors import ModelLoadError
from broker.models.files import keras_check, no_space
from broker.models.files.temporary import temporary_folder
from broker.models.kinds import is_hdf5
from broker.models.spec import ModelSpec
from worker_client.interpreter.executable import python
from worker_client.interpreter.surroundings import program, python_path

FORMAT = 1
KEPT_SECONDS = 30 * 24 * 3600.0
"""How long an unused export is kept."""

_ENTRY = "from broker.models.sources.keras_file import main; sys.exit(main())"
_LEGACY_VARIABLE = "TF_USE_LEGACY_KERAS"
_MOST_CHARACTERS = 600


@contextlib.contextmanager
def exported(spec: ModelSpec, path: Path) -> Iterator[Path]:
    """The SavedModel of the Keras file at `path`; valid inside the block. Raises ModelLoadError."""
    _check(spec, path)
    if spec.imports:  # their code may change, and then the same file makes another model
        with temporary_folder(spec) as folder:
            yield _export(spec, path, folder / "model")
        return
    kept = cache_folder("keras") / _digest(path)
    if kept.is_dir():
        with contextlib.suppress(OSError):
            os.utime(kept)
        yield kept
        return
    with contextlib.suppress(OSError):
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _forget_old(kept.parent)
    with temporary_folder(spec, kept.parent) as folder:
        made = _export(spec, path, folder / "model")
        with contextlib.suppress(OSError):  # another broker was faster, or the folder is not writable
            if kept.parent in made.parents:
                made = made.rename(kept)
        yield made


def _check(spec: ModelSpec, path: Path) -> None:
    found = keras_check.problem_with(path)
    if found is not None:
        raise ModelLoadError.of(spec.name, spec.source, *found)


def export(model: Any, target: Path) -> None:
    """Write a Keras model as a SavedModel. Raises Keras's own exceptions."""
    if not hasattr(model, "export"):
        raise TypeError(f"{type(model).__name__} has no method export, which needs Keras 2.13 or newer")
    silent = {"verbose": False} if "verbose" in inspect.signature(model.export).parameters else {}
    model.export(str(target), **silent)


def _export(spec: ModelSpec, path: Path, target: Path) -> Path:
    answer = _ask_child({"path": str(path), "target": str(target), "imports": list(spec.imports)})
    if "cause" in answer:
        raise ModelLoadError.of(spec.name, spec.source, answer["cause"], answer["remedy"])
    if "error" not in answer:
        return target
    raise ModelLoadError.of(
        spec.name,
        spec.source,
        f"Keras cannot load and export {path}: {answer['error']}",
        "If it needs classes of yours, name the modules that register them: imports = ['package.module']; "
        "a file of "
        f"Keras 2 may need the package tf_keras and {_LEGACY_VARIABLE}=1",
    )


def _ask_child(message: dict[str, Any]) -> dict[str, str]:
    """The child's answer: `error` with Keras's message, or `cause` and `remedy`, if the export failed; otherwise
    empty."""
    environment = {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **os.environ,
        "PYTHONPATH": python_path(),
        "CUDA_VISIBLE_DEVICES": "-1",  # the export is the same, and GPU memory is for models
        "TMPDIR": os.path.dirname(message["target"]),  # removed afterwards, and known to be writable
    }
    done = subprocess.run(
        [python(), "-c", program(_ENTRY)],
        input=json.dumps(message).encode(),
        capture_output=True,
        env=environment,
        check=False,
        start_new_session=True,  # a Ctrl-C reaches only the broker, which then ends this process
    )
    try:
        return json.loads(done.stdout)  # type: ignore[no-any-return]
    except ValueError:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        said = f"the process that does it ended with status {done.returncode}: {' '.join(lines[-3:])}"
        return {"error": said}


def _digest(path: Path) -> str:
    """The digest of the file and of the versions that convert it."""
    versions = [FORMAT, os.environ.get(_LEGACY_VARIABLE)]
    for package in ("tensorflow", "tensorflow-cpu", "keras", "tf_keras"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    digest = hashlib.sha256(json.dumps(versions).encode())
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()[:32]


def _forget_old(folder: Path) -> None:
    limit = time.time() - KEPT_SECONDS
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):
            if entry.stat().st_mtime < limit:
                shutil.rmtree(entry)


# --- the child ---


def main() -> int:
    answers = os.dup(1)
    os.dup2(2, 1)
    message = json.loads(sys.stdin.read())
    answer = _made(Path(message["path"]), Path(message["target"]), message["imports"])
    os.write(answers, json.dumps(answer).encode())
    return 0


def _made(path: Path, target: Path, imports: Sequence[str]) -> dict[str, str]:
    """Export the file at `path`. Returns the answer to the parent."""
    found = keras_check.problem_with_hdf5(path) if is_hdf5(path) else None
    if found is not None:
        return found._asdict()
    try:
        from broker.models.tf.runtime import tf

        for name in imports:
            importlib.import_module(name)
        export(tf.keras.models.load_model(str(path), compile=False), target)
    except Exception as error:
        full = no_space.problem_with(error, target)
        if full is not None:
            return full._asdict()
        text = _own_words(error)
        line = f"{type(error).__name__}: {text[:_MOST_CHARACTERS]}"
        if "Lambda" in text and "safe_mode" in text:
            cause = f"Keras cannot load {path}: {text.partition('. ')[0]}"
            return {"cause": cause, "remedy": keras_check.lambda_remedy(path)}
        return {"error": line}
    return {}


def _own_words(error: Exception) -> str:
    """Keras's message without the configurations of the enclosing layers, which Keras puts first."""
    text = " ".join(str(error).split())
    return text.rpartition("Exception encountered: ")[2] or text or "without a message"


if __name__ == "__main__":
    sys.exit(main())
