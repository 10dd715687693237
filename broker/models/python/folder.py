"""A folder with a `model.py` as a model: one function in it has a signature (`broker.signature`).

So Python models can have numbered versions: each version is a separate module, independent of the others.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from types import ModuleType

from broker.models.errors import RAISED_BY_CODE, ModelLoadError
from broker.models.files.reading import reading
from broker.models.python import function
from broker.models.python.function import FunctionModel
from broker.models.spec import ModelSpec
from worker_client.wire.signature import Signature

FILE = "model.py"
_numbers = count(1)


class PythonFolder(FunctionModel):
    """A model whose module is removed together with it."""

    module = ""

    def close(self) -> None:
        sys.modules.pop(self.module, None)


def holds_python(source: str) -> bool:
    return Path(source).expanduser().joinpath(FILE).is_file()


def load(spec: ModelSpec) -> FunctionModel:
    """Run the folder's `model.py` and take the function that has a signature. Raises ModelLoadError."""
    path = Path(spec.source).expanduser() / FILE
    with reading(spec):
        program = path.read_bytes()
    module = ModuleType(f"onesession_model_{next(_numbers)}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pickle look it up there
    try:
        # Compiled here, because the import system would cache byte code beside the model and check its age only to the
        # second.
        exec(compile(program, str(path), "exec"), module.__dict__)  # noqa: S102 - the model is a program
        found = _only_function(spec, path, module)
    except ModelLoadError:
        sys.modules.pop(module.__name__)
        raise
    except RAISED_BY_CODE as error:
        sys.modules.pop(module.__name__)
        raise ModelLoadError.of(
            spec.name,
            spec.source,
            f"running {path} raised {type(error).__name__}: {error}",
            f"Make `python {path}` work in the broker's environment",
        ) from error
    found.module = module.__name__
    return found


def _only_function(spec: ModelSpec, path: Path, module: ModuleType) -> PythonFolder:
    signed = {
        name: (value, made)
        for name, value in vars(module).items()
        if isinstance(made := getattr(value, function.ATTRIBUTE, None), Signature)
    }
    if len(signed) > 1 and "model" in signed:
        signed = {"model": signed["model"]}
    if len(signed) != 1:
        there = f"has {len(signed)} ({', '.join(signed)})" if signed else "has none"
        raise ModelLoadError.of(
            spec.name,
            spec.source,
            f"{path} must define one function with a signature, or call the one to serve `model`; it {there}",
            function.HOW_TO_ATTACH,
        )
    ((value, made),) = signed.values()
    return PythonFolder(spec, value, made)
