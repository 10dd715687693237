"""TensorFlow: SavedModels as models, each with a Graph and a Session of its own. The only module that imports it.

What is done for speed, each point measured: feeds and fetches pass no copy; a run stays on the thread
that calls it (`inter_op_thread_pool = -1`) unless the model's settings say otherwise; the call goes straight to the C
layer; every session has an intra-op pool of its own. With how many threads, and on whose, is measured by
broker/tuning and stands in the spec; where it does not, the guess in `load` does.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from broker.models import forked
from broker.models.aliases import aliased
from broker.models.errors import ModelLoadError
from broker.models.failure import clean
from broker.models.model import DEFAULT_SIGNATURE, AdHoc, Run, default_of, no_such_signature
from broker.models.quiet import import_chatter_dropped
from broker.models.saved_model import locate, missing_variables, weight_bytes
from broker.models.spec import ModelSpec
from broker.models.warmup import Cost, measure
from worker_client.wire.dtypes import SUPPORTED, dtype_named
from worker_client.wire.errors import InvalidInput, ModelFailed
from worker_client.wire.signature import Shape, Signature, TensorSpec
from worker_client.wire.tensors import MAX_RANK

# Only where the import is ours to make: who has TensorFlow already, or set the level, has chosen what to see.
_QUIET = "tensorflow" not in sys.modules and "TF_CPP_MIN_LOG_LEVEL" not in os.environ
if _QUIET:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
# Without this the first session of the process fixes the intra-op threads of all later ones (TensorFlow's
# local_device.cc: one global pool). Read once, when the first session is made.
os.environ.setdefault("TF_OVERRIDE_GLOBAL_THREADPOOL", "1")

with import_chatter_dropped(wanted=_QUIET):
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2
    from tensorflow.python.client import pywrap_tf_session
    from tensorflow.python.client.session import BaseSession
    from tensorflow.python.saved_model.loader_impl import SavedModelLoader

ONE_THREAD = 1
ALL_CORES = 0
"""TensorFlow's own default for intra-op threads: one for each core this process may use."""

LIGHT_WEIGHT_BYTES = 2_000_000
"""Models with less on disk are first opened with one thread, others with all cores; a measurement then decides."""
PROBE_SECONDS = 0.05

CALLER_THREAD = -1
"""The `inter_op_thread_pool` that means: run every op on the thread that calls."""
POOL = 0
"""TensorFlow's default: the session's inter-op pool."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One signature and the graph's tensors behind it, in the order of the signature's inputs and outputs."""

    signature: Signature
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]


class SessionModel:
    """A SavedModel as a LoadedModel: one Graph, one Session, one callable for each signature."""

    def __init__(
        self,
        spec: ModelSpec,
        version: int,
        session: Any,
        runs: Mapping[str, tuple[Endpoint, Run]],
        left_out: Mapping[str, str],
        intra_op_threads: int,
        owned: bool = True,
    ) -> None:
        self.spec = spec
        self.version = version
        self.signatures: Mapping[str, Signature] = {
            name: endpoint.signature for name, (endpoint, _) in runs.items()
        }
        self.default_signature = default_of(self.signatures)
        self.left_out = left_out
        self.intra_op_threads = intra_op_threads
        self._owned = owned
        self._session = session
        self._runs = {name: run for name, (_, run) in runs.items()}
        self._endpoints = {name: endpoint for name, (endpoint, _) in runs.items()}

    def callable(self, signature_name: str) -> Run:
        run = self._runs.get(signature_name)
        if run is None:
            raise no_such_signature(signature_name, self)
        return run

    def callable_on(self, signature_name: str, *, caller_thread: bool) -> Run:
        """Another callable of this signature, on the caller's thread or in the pool whatever the spec says."""
        return _run(self.spec.name, self._session, self._endpoints[signature_name], caller_thread)

    def ad_hoc(self, name: str, feeds: Sequence[str], fetches: Sequence[str]) -> AdHoc:
        graph = self._session.graph
        inputs = [_ad_hoc_spec(_feedable(graph, feed), feed) for feed in feeds]
        found = {fetch: _fetchable(graph, fetch) for fetch in fetches}
        tensors = {fetch: element for fetch, element in found.items() if isinstance(element, tf.Tensor)}
        outputs = [_ad_hoc_spec(tensor, fetch) for fetch, tensor in tensors.items()]
        signature = Signature(name, tuple(inputs), tuple(outputs))
        names = tuple(tensor.name for tensor in tensors.values())
        endpoint = Endpoint(signature, tuple(graph.get_tensor_by_name(feed).name for feed in feeds), names)
        operations = tuple(fetch for fetch in fetches if fetch not in tensors)
        targets = [found[operation].name for operation in operations]
        run = _run(self.spec.name, self._session, endpoint, _on_caller_thread(self.spec), targets)
        return AdHoc(signature, run, operations)

    def close(self) -> None:
        if self._owned:
            self._session.close()

    def __repr__(self) -> str:
        return f"<SessionModel {self.spec.name} version {self.version}, {self.intra_op_threads or 'all'} threads>"


# --- loading ---


def load(spec: ModelSpec) -> SessionModel:
    """Load the SavedModel at `spec.source` and restore its variables and tables. Raises ModelLoadError.

    Unless the spec says how many intra-op threads it wants (broker/tuning fills in what it measured), the model gets
    one if it is light and TensorFlow's default if it is heavy. This is guessed from the weights, then measured; a
    wrong guess costs a second load.
    """
    directory, version = locate(spec)
    if spec.intra_op_threads is not None:
        return _open(spec, directory, version, spec.intra_op_threads)
    threads = ONE_THREAD if weight_bytes(directory) < LIGHT_WEIGHT_BYTES else ALL_CORES
    model = _open(spec, directory, version, threads)
    cost = _probe(model)
    wanted = ONE_THREAD if cost.light else ALL_CORES
    if wanted == threads or cost.p50_us is None:
        return model
    model.close()
    del model
    gc.collect()  # a Graph is full of cycles; without this both copies of the weights would be in memory
    return _open(spec, directory, version, wanted)


def _probe(model: SessionModel) -> Cost:
    """What one row costs, measured on a thread of its own.

    oneDNN keeps the plan it made for a shape, with its number of threads, for each calling thread. A probe with
    the wrong setting on the thread that later serves the model would slow it for good.
    """
    costs: list[Cost] = []
    signature = model.signatures[model.default_signature]
    run = model.callable(model.default_signature)
    prober = threading.Thread(
        target=lambda: costs.append(measure(run, signature, seconds=PROBE_SECONDS)), name="onesession-probe"
    )
    prober.start()
    prober.join()
    return costs[0]


def _open(spec: ModelSpec, directory: Path, version: int, intra_op_threads: int) -> SessionModel:
    loader, meta_graph = _read(spec, directory)
    graph = tf.Graph()
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=intra_op_threads, allow_soft_placement=True
    )
    # A pool of the session's own where runs go through it: oneDNN's plans hold for a thread, with their number of
    # intra-op threads, so that a pool which sessions of different numbers share would slow one of them.
    config.use_per_session_threads = not _on_caller_thread(spec)
    config.gpu_options.allow_growth = True
    session = tf.compat.v1.Session(graph=graph, config=config)
    forked.guard(session, BaseSession)
    try:
        _restore(spec, directory, loader, session)
        runs, left_out = _runs(spec, session, meta_graph.signature_def)
        if not runs:
            raise _nothing_to_serve(spec, left_out)
        return SessionModel(spec, version, session, runs, left_out, intra_op_threads)
    except BaseException:
        session.close()
        raise


def _on_caller_thread(spec: ModelSpec) -> bool:
    return spec.caller_thread is not False


def onednn_enabled() -> bool:
    """Whether oneDNN is on in this process, which its environment and its processor decided when it started."""
    try:
        from tensorflow.python.util import _pywrap_util_port

        return bool(_pywrap_util_port.IsMklEnabled())
    except (ImportError, AttributeError):  # no part of TensorFlow's public face
        return os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") not in ("0", "false")


def adopt(
    spec: ModelSpec, session: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> SessionModel:
    """Tensors of a session that somebody else made, uses and will close. Raises InvalidInput."""
    if not isinstance(session, BaseSession):
        raise InvalidInput(f"model {spec.name!r}: {session!r} is no tf.compat.v1.Session")
    if not outputs:
        raise InvalidInput(f"model {spec.name!r}: a model returns at least one tensor; name some in outputs=")
    forked.guard(session, BaseSession)
    feeds = {name: _feedable(session.graph, tensor) for name, tensor in inputs.items()}
    fetches = {name: _fetched(session.graph, tensor) for name, tensor in outputs.items()}
    signature = Signature(
        DEFAULT_SIGNATURE,
        tuple(_ad_hoc_spec(tensor, name) for name, tensor in feeds.items()),
        tuple(_ad_hoc_spec(tensor, name) for name, tensor in fetches.items()),
    )
    names = [tuple(tensor.name for tensor in side.values()) for side in (feeds, fetches)]
    endpoint = Endpoint(signature, *names)
    run = _run(spec.name, session, endpoint, _on_caller_thread(spec))
    return SessionModel(spec, 1, session, {DEFAULT_SIGNATURE: (endpoint, run)}, {}, ALL_CORES, owned=False)


def keras_function(model: Any) -> tuple[Callable[..., Any], _Sides, _Sides]:
    """A Keras model as a function of arrays, and its inputs and outputs as {name: (dtype, shape)}."""
    if not getattr(model, "built", False) or not getattr(model, "inputs", None):
        raise InvalidInput(
            f"{model!r} is no built Keras model with known inputs; call it once on data, or give it an Input layer"
        )
    inputs = {tensor.name: (str(tensor.dtype), list(tensor.shape)) for tensor in model.inputs}
    outputs = {_output_name(n): (str(t.dtype), list(t.shape)) for n, t in enumerate(model.outputs)}
    specs = [tf.TensorSpec(shape, dtype) for dtype, shape in inputs.values()]
    single = len(specs) == 1
    traced = tf.function(lambda *tensors: model(tensors[0] if single else list(tensors), training=False))
    concrete = traced.get_concrete_function(*specs)

    def call(*arrays: np.ndarray) -> Any:
        answers = concrete(*[tf.convert_to_tensor(array) for array in arrays])
        values = [tensor.numpy() for tensor in tf.nest.flatten(answers)]
        return values if len(outputs) > 1 else values[0]

    return call, inputs, outputs


_Sides = dict[str, tuple[str, list[Any]]]


def _output_name(number: int) -> str:
    return "y" if number == 0 else f"y{number}"


def _fetched(graph: Any, tensor: Any) -> Any:
    found = _fetchable(graph, tensor)
    if not isinstance(found, tf.Tensor):
        raise InvalidInput(
            f"{found.name} is an operation and has no value to return; name one of its tensors"
        )
    return found


def _read(spec: ModelSpec, directory: Path) -> tuple[Any, Any]:
    """The loader with the parsed graph file, and the MetaGraph that has the spec's tags."""
    try:
        loader = SavedModelLoader(str(directory))
    except (OSError, ValueError) as error:
        raise _refused(
            spec, f"the graph file in {directory} cannot be read: {error}", "Copy or export the model again"
        ) from error
    meta_graphs = loader.saved_model.meta_graphs
    if not meta_graphs:
        raise _refused(
            spec, f"the graph file in {directory} is empty or cut off", "Copy or export the model again"
        )
    for meta_graph in meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(spec.tags):
            if meta_graph.HasField("saver_def") and (index := missing_variables(directory)):
                raise _refused(
                    spec, f"its variables are missing: there is no {index}", "Copy the whole directory again"
                )
            return loader, meta_graph
    there = " or ".join(repr(tuple(sorted(m.meta_info_def.tags))) for m in meta_graphs)
    raise _refused(
        spec,
        f"it has no graph with the tags {spec.tags!r}, only with {there}",
        "Set the model's tags to these",
    )


def _restore(spec: ModelSpec, directory: Path, loader: Any, session: Any) -> None:
    """Import the graph, read the variables, fill the tables: the steps of TensorFlow's loader, named apart."""
    step, remedy = "", ""
    try:
        step, remedy = "its graph cannot be imported", "Serve it with the TensorFlow version that exported it"
        saver, _ = loader.load_graph(session.graph, spec.tags)
        step, remedy = "its variables cannot be restored", f"Copy or export {directory} again"
        loader.restore_variables(session, saver)
        step, remedy = "its initialisation failed", f"Check the files in {directory / 'assets'}"
        loader.run_init_ops(session, spec.tags)
    except Exception as error:
        raise _refused(spec, f"{step}: {_text(error)}", remedy) from error


def _refused(spec: ModelSpec, cause: str, remedy: str) -> ModelLoadError:
    return ModelLoadError.of(spec.name, spec.source, cause, remedy)


def _nothing_to_serve(spec: ModelSpec, left_out: Mapping[str, str]) -> ModelLoadError:
    if not left_out:
        return _refused(
            spec,
            "it has no signatures",
            "Export it with some: tf.saved_model.save(module, path, signatures=module.serve)",
        )
    reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
    return _refused(
        spec, f"none of its signatures can be served ({reasons})", "Export a signature of numeric tensors"
    )


# --- signatures ---


def _runs(
    spec: ModelSpec, session: Any, definitions: Mapping[str, Any]
) -> tuple[dict[str, tuple[Endpoint, Run]], dict[str, str]]:
    """The signatures that can be served, by name, and the reasons why others cannot."""
    runs: dict[str, tuple[Endpoint, Run]] = {}
    left_out: dict[str, str] = {}
    for name in sorted(definitions):
        if name.startswith("__saved_model"):
            continue  # TensorFlow's own: the initialiser and the training step
        try:
            endpoint = _endpoint(session.graph, name, definitions[name])
            runs[name] = endpoint, _run(spec.name, session, endpoint, _on_caller_thread(spec))
        except _NotServable as reason:
            left_out[name] = str(reason)
        except tf.errors.OpError as error:
            left_out[name] = f"TensorFlow cannot run it: {_text(error)}"
    return runs, left_out


class _NotServable(Exception):
    """Why a signature is left out."""


def _endpoint(graph: Any, name: str, definition: Any) -> Endpoint:
    feeds, inputs = _side(graph, "input", definition.inputs)
    fetches, outputs = _side(graph, "output", definition.outputs)
    if not outputs:
        raise _NotServable("it returns nothing")
    return Endpoint(Signature(name, inputs, outputs), feeds, fetches)


def _side(graph: Any, side: str, infos: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[TensorSpec, ...]]:
    """Tensor names and specs sorted by name: the map in the file has no order of its own."""
    names = sorted(infos)
    tensors = tuple(_tensor_name(graph, f"{side} {name!r}", infos[name]) for name in names)
    specs = tuple(_tensor_spec(f"{side} {name!r}", name, infos[name]) for name in names)
    return tensors, specs


def _tensor_name(graph: Any, what: str, info: Any) -> str:
    if info.WhichOneof("encoding") != "name":
        raise _NotServable(f"{what} is a sparse or composite tensor")
    try:
        return str(graph.get_tensor_by_name(info.name).name)
    except (KeyError, ValueError):
        raise _NotServable(f"{what} is tensor {info.name!r}, which the graph does not have") from None


def _tensor_spec(what: str, name: str, info: Any) -> TensorSpec:
    dtype = tf.dtypes.as_dtype(info.dtype).name
    if dtype not in SUPPORTED:
        raise _NotServable(f"{what} is {dtype}, which has no fixed size or no numpy type")
    shape = _shape(info.tensor_shape)
    if shape is not None and len(shape) > MAX_RANK:
        raise _NotServable(f"{what} has {len(shape)} dimensions; at most {MAX_RANK} cross to the workers")
    return TensorSpec(name, dtype_named(dtype), shape)


def _shape(shape: Any) -> Shape | None:
    if shape.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else int(dim.size) for dim in shape.dim)


def _fetchable(graph: Any, fetch: Any) -> Any:
    """The tensor or operation, or TensorFlow's own error (session.py, `_ElementFetchMapper`)."""
    try:
        return graph.as_graph_element(fetch, allow_tensor=True, allow_operation=True)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"Argument `fetch` = {fetch} cannot be interpreted as a Tensor. ({_argument(error)})"
        ) from None


def _feedable(graph: Any, feed: Any) -> Any:
    try:
        tensor = graph.as_graph_element(feed, allow_operation=False)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"Cannot interpret feed_dict key as Tensor: {_argument(error)}") from None
    if not graph.is_feedable(tensor):
        raise InvalidInput(f"Tensor {tensor.name} may not be fed.")
    return tensor


def _argument(error: Exception) -> str:
    return str(error.args[0]) if error.args else str(error)


def _ad_hoc_spec(tensor: Any, name: str) -> TensorSpec:
    dtype = tensor.dtype.base_dtype.name
    if dtype not in SUPPORTED:
        raise InvalidInput(f"tensor {tensor.name} is {dtype}, which has no fixed size or no numpy type")
    return TensorSpec(name, dtype_named(dtype), _shape(tensor.shape.as_proto()))


# --- running ---


def _run(
    model: str, session: Any, endpoint: Endpoint, caller_thread: bool, targets: Sequence[str] = ()
) -> Run:
    """The endpoint as a Run: TensorFlow's own callable where every tensor is fed or fetched just once.

    `targets` are operations that are run as well.
    """
    feeds = tuple(dict.fromkeys(endpoint.feeds))
    fetches = tuple(name for name in dict.fromkeys(endpoint.fetches) if name not in feeds)
    bare = _bare(model, session, feeds, fetches, targets, caller_thread) if fetches or targets else None
    if bare is not None and feeds == endpoint.feeds and fetches == endpoint.fetches:
        return bare
    return aliased(bare, endpoint.signature, endpoint.feeds, endpoint.fetches)


def _bare(
    model: str,
    session: Any,
    feeds: Sequence[str],
    fetches: Sequence[str],
    targets: Sequence[str],
    caller_thread: bool,
) -> Run:
    options = config_pb2.CallableOptions(feed=feeds, fetch=fetches, target=targets)
    options.run_options.inter_op_thread_pool = CALLER_THREAD if caller_thread else POOL
    made = session._make_callable_from_options(options)  # noqa: SLF001 (no public way gives these options)
    # What `made(*arrays)` does, without its layer of Python. `made` owns the handle and must live as long.
    run_callable = pywrap_tf_session.TF_SessionRunCallable
    c_session, handle = session._session, made._handle  # noqa: SLF001

    def run(*arrays: np.ndarray) -> Sequence[np.ndarray]:
        try:
            return run_callable(c_session, handle, arrays, None)  # type: ignore[no-any-return]
        except Exception as error:
            raise _failed(model, made, error) from None

    return run


def _failed(model: str, made: Any, error: Exception) -> ModelFailed:
    del made  # named here so that the callable's owner lives as long as the function that uses its handle
    return ModelFailed(f"model {model!r} failed: {type(error).__name__}: {_text(error)}")


def _text(error: Exception) -> str:
    return clean(error.message if isinstance(error, tf.errors.OpError) else str(error))
