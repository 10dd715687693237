"""LiteRT (TensorFlow Lite) files as models: each signature of the file, or its graph where it names none.

The answers are those that an interpreter in the worker would give: quantised values go in and out as the file has them.
An interpreter runs one request at a time and sets its sizes again for each. So signatures without state take one from a
pool, which grows to the number of runs side by side; all that touches variables has one in common, behind a lock. The
file is read into memory once for all of them: a file that is overwritten in place changes no answer.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from broker.models.errors import ModelLoadError
from broker.models.examples import Examples, of_spec
from broker.models.files import damage
from broker.models.files.locate import locate
from broker.models.files.reading import reading
from broker.models.kinds import SourceKind, kind_of
from broker.models.model import DEFAULT_SIGNATURE, AdHocSignature, Run, default_of, no_such_signature
from broker.models.sources.lite_file import Damaged, LiteFile
from broker.models.spec import ModelSpec
from broker.models.tf import lite_runtime
from worker_client.wire.dtypes import STRING, dtype_named
from worker_client.wire.errors import InvalidInput, ModelFailed
from worker_client.wire.signature import Shape, Signature, TensorSpec, format_shape

_ERRORS = (ValueError, RuntimeError, TypeError, MemoryError)
_INSTALL = (
    'Install one beside the broker: pip install ai-edge-litert, or pip install "onesession[tensorflow]"'
)
_CONVERT = (
    "Convert it with built-in ops only (OpsSet.TFLITE_BUILTINS), or serve the SavedModel or Keras file that it was "
    "converted from"
)
_AGAIN = "Copy or convert the model again"

Call = Callable[..., Sequence[Any] | None]
"""An interpreter's signature, as a function of its inputs by position. None: the answer is undefined (`_defined`)."""
_Opened = Mapping[str, tuple[Signature, Call]]


class LiteModel:
    """A LiteRT file as a LoadedModel."""

    onednn = None
    intra_op_threads = None

    def __init__(
        self,
        spec: ModelSpec,
        version: int,
        file: LiteFile,
        open_one: Callable[[], _Opened],
        left_out: Mapping[str, str],
    ) -> None:
        """Raises what opening an interpreter does."""
        first = open_one()
        self.spec = spec
        self.version = version
        self.signatures: Mapping[str, Signature] = {name: made for name, (made, _) in first.items()}
        self.default_signature = default_of(self.signatures)
        self.left_out = left_out
        subgraphs = {name: file.signatures.get(name, 0) for name in first}
        self.effects: Mapping[str, str] = {name: file.effects(number) for name, number in subgraphs.items()}
        self.compiled: Mapping[str, str] = {}
        self.examples: Examples = {} if spec.warmup is False else of_spec(spec, self.signatures)
        with_state = {name for name, n in subgraphs.items() if self.effects[name] or file.shares_state(n)}
        self._shared = _Shared(first if with_state else None)
        self._pool = _Pool(open_one, [] if with_state else [first])
        self._runs: Mapping[str, Run] = {
            name: _run_of(self._shared if name in with_state else self._pool, made)
            for name, made in self.signatures.items()
        }

    def callable(self, signature_name: str) -> Run:
        run = self._runs.get(signature_name)
        if run is None:
            raise no_such_signature(signature_name, self)
        return run

    def ad_hoc(self, name: str, feeds: Sequence[str], fetches: Sequence[str]) -> AdHocSignature:
        raise InvalidInput(
            f"model {self.spec.name!r} is a LiteRT file and has no graph whose tensors a session could run; "
            "call it with client.model(...).predict(...)"
        )

    def interrupt(self) -> bool:
        """An interpreter ends its run by itself."""
        return False

    def close(self) -> None:
        self._shared.close()
        self._pool.close()

    def __repr__(self) -> str:
        return f"<LiteModel {self.spec.name} version {self.version}>"


class _Shared:
    """One interpreter for all that has state."""

    def __init__(self, opened: _Opened | None) -> None:
        self._opened = opened
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def taken(self) -> Iterator[_Opened]:
        with self._lock:
            if self._opened is None:
                raise ModelFailed("the model was unloaded")
            yield self._opened

    def close(self) -> None:
        with self._lock:
            self._opened = None


class _Pool:
    """Interpreters without state, as many as ran side by side."""

    def __init__(self, open_one: Callable[[], _Opened], free: list[_Opened]) -> None:
        self._open: Callable[[], _Opened] | None = open_one
        self._free = free

    @contextlib.contextmanager
    def taken(self) -> Iterator[_Opened]:
        open_one = self._open
        if open_one is None:
            raise ModelFailed("the model was unloaded")
        try:
            opened = self._free.pop()  # atomic, as append is
        except IndexError:
            opened = open_one()
        yield opened
        # One whose run has failed is not used again: it may be left half-way between two sizes.
        if self._open is not None:
            self._free.append(opened)

    def close(self) -> None:
        self._open = None
        self._free.clear()


def _run_of(pool: _Shared | _Pool, signature: Signature) -> Run:
    name = signature.name

    def run(*feeds: np.ndarray) -> Sequence[np.ndarray]:
        try:
            with pool.taken() as opened:
                found = opened[name][1](*feeds)
        except _ERRORS as error:
            raise ModelFailed(f"{type(error).__name__}: {_one_line(error)}") from error
        if found is None:
            raise ModelFailed(
                "its answer is undefined: an input, or a tensor on the way, has no elements, and LiteRT skips what is "
                "computed from it; send rows with elements, of which the model keeps some"
            )
        return [_checked(spec, value) for spec, value in zip(signature.outputs, found, strict=True)]

    return run


def _checked(spec: TensorSpec, value: Any) -> np.ndarray:
    array = np.asarray(value, spec.dtype)
    if not spec.accepts(array.shape):
        raise ModelFailed(
            f"it gave {spec.name!r} with shape {format_shape(array.shape)}, but its file says {spec}"
        )
    return array


# --- loading ---


def holds_lite(spec: ModelSpec) -> bool:
    """Whether the source is a LiteRT file; False also for what cannot be found, of which others say why."""
    try:
        return kind_of(locate(spec)[0]) is SourceKind.LITE
    except (ModelLoadError, OSError):
        return False


def load(spec: ModelSpec) -> LiteModel:
    """Raises ModelLoadError."""
    path, version = locate(spec)
    with reading(spec):
        damage.check(spec, path)
        content = path.read_bytes()
    if spec.inputs or spec.outputs:
        raise _refused(
            spec,
            "its settings inputs and outputs name tensors of a graph, and a LiteRT file has signatures",
            "Leave them out",
        )
    try:
        lite = lite_runtime.find()
    except ImportError as error:
        raise _refused(spec, f"there is no interpreter for LiteRT files ({error})", _INSTALL) from error
    return _open(spec, path, version, content, lite)


def _open(spec: ModelSpec, path: Path, version: int, content: bytes, lite: lite_runtime.Lite) -> LiteModel:
    try:
        file = LiteFile(content, lite.schema)
    except Damaged as error:
        raise _refused(
            spec, f"{path} is damaged or cut off ({type(error).__name__}: {error})", _AGAIN
        ) from error
    left_out: dict[str, str] = {}
    threads = spec.intra_op_threads or 1  # as an interpreter has it of whom nothing else is said

    def open_one() -> _Opened:
        return _signatures(lite.open(content, threads), file, left_out)

    try:
        return LiteModel(spec, version, file, open_one, left_out)
    except _ERRORS as error:
        raise _refused(spec, _why_not_opened(path, file, error), _CONVERT) from error
    except InvalidInput as error:
        raise _refused(spec, str(error), _CONVERT) from error


def _signatures(interpreter: Any, file: LiteFile, left_out: dict[str, str]) -> _Opened:
    """What it can run. Raises InvalidInput if that is nothing, and what the interpreter does where it lacks an op."""
    interpreter.allocate_tensors()
    names = sorted(interpreter.get_signature_list())
    ways = {name: _by_signature(interpreter, name) for name in names} or {
        DEFAULT_SIGNATURE: _whole_graph(interpreter)
    }
    opened = {}
    for name, (inputs, outputs, call) in ways.items():
        try:
            perhaps_empty = file.perhaps_empty(file.signatures.get(name, 0))
            made = Signature(name, _specs(inputs), _specs(outputs))
            opened[name] = made, _defined(call, interpreter, perhaps_empty)
        except (InvalidInput, ValueError, TypeError) as error:
            left_out[name] = str(error)
    if not opened:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise InvalidInput(f"none of its signatures can be served ({reasons})")
    return opened


def _defined(call: Call, interpreter: Any, perhaps_empty: Mapping[int, Collection[int]]) -> Call:
    """The call, which returns None if its outputs may be what an earlier run left in memory, and so another caller's:
    the interpreter's kernels skip inputs without elements, but the outputs of these may have some."""

    def defined(*feeds: np.ndarray) -> Sequence[Any] | None:
        found = call(*feeds)
        assert found is not None
        if not any(np.size(output) for output in found):
            return found
        if not all(feed.size for feed in feeds) or any(
            0 in details["shape"]
            for subgraph, computed in perhaps_empty.items()
            for details in interpreter.get_tensor_details(subgraph)
            if details["index"] in computed
        ):
            return None
        return found

    return defined


Details = Mapping[str, Mapping[str, Any]]
"""Of tensors, by the name that callers use."""


def _by_signature(interpreter: Any, name: str) -> tuple[Details, Details, Call]:
    runner = interpreter.get_signature_runner(name)
    inputs, outputs = runner.get_input_details(), runner.get_output_details()
    given, wanted = list(inputs), list(outputs)

    def call(*feeds: np.ndarray) -> Sequence[Any]:
        found = runner(**dict(zip(given, feeds)))
        return [found[output] for output in wanted]

    return inputs, outputs, call


def _whole_graph(interpreter: Any) -> tuple[Details, Details, Call]:
    """The file's first graph, whose inputs and outputs have the names of their tensors."""
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    indices = [each["index"] for each in inputs]
    wanted = [each["index"] for each in outputs]

    def call(*feeds: np.ndarray) -> Sequence[Any]:
        for index, feed in zip(indices, feeds):
            interpreter.resize_tensor_input(index, feed.shape)
        interpreter.allocate_tensors()
        for index, feed in zip(indices, feeds):
            interpreter.set_tensor(index, feed)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in wanted]

    return _named(inputs), _named(outputs), call


def _named(details: Sequence[Mapping[str, Any]]) -> Details:
    named = {each["name"]: each for each in details}
    return (
        named if len(named) == len(details) else {f"{each['name']}#{each['index']}": each for each in details}
    )


def _specs(details: Details) -> tuple[TensorSpec, ...]:
    return tuple(_spec(name, each) for name, each in details.items())


def _spec(name: str, details: Mapping[str, Any]) -> TensorSpec:
    dtype = STRING if details["dtype"] is np.bytes_ else dtype_named(np.dtype(details["dtype"]).name)
    shape: Shape = tuple(None if size < 0 else int(size) for size in details["shape_signature"])
    return TensorSpec(name, dtype, shape)


def _why_not_opened(path: Path, file: LiteFile, error: Exception) -> str:
    if file.tensorflow_ops:
        return f"{path} runs ops of TensorFlow ({', '.join(file.tensorflow_ops)}), which the interpreter does not have"
    return f"the interpreter cannot open {path}: {_one_line(error)}"


def _one_line(error: BaseException) -> str:
    """Without its links for app developers."""
    return " ".join(str(error).partition("See instructions:")[0].split()).rstrip(".")


def _refused(spec: ModelSpec, cause: str, remedy: str) -> ModelLoadError:
    return ModelLoadError.of(spec.name, spec.source, cause, remedy)
