"""SavedModels as models, each with a Graph and a Session of its own; and sessions that others own.

What is done for speed, each point measured: feeds and fetches pass no copy; a run stays on the thread
that calls it (`inter_op_thread_pool = -1`) unless the model's settings say otherwise; the call goes straight to the C
layer; every session has an intra-op pool of its own. With how many threads, and on whose, is measured by
broker/tuning and stands in the spec; where it does not, the guess in `load` does.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from broker.models import forked
from broker.models.errors import ModelLoadError
from broker.models.graph import Endpoint, NotServable, endpoint_of, feedable, fetchable, fetched, spec_of
from broker.models.model import DEFAULT_SIGNATURE, AdHoc, Run, default_of, no_such_signature
from broker.models.running import runner_of, text_of
from broker.models.runtime import BaseSession, SavedModelLoader, tf
from broker.models.saved_model import locate, missing_variables, weight_bytes
from broker.models.spec import ModelSpec
from broker.models.warmup import Cost, measure
from worker_client.wire.errors import InvalidInput
from worker_client.wire.signature import Signature

ONE_THREAD = 1
ALL_CORES = 0
"""TensorFlow's own default for intra-op threads: one for each core this process may use."""

LIGHT_WEIGHT_BYTES = 2_000_000
"""Models with less on disk are first opened with one thread, others with all cores; a measurement then decides."""
PROBE_SECONDS = 0.05


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
        return runner_of(self.spec.name, self._session, self._endpoints[signature_name], caller_thread)

    def ad_hoc(self, name: str, feeds: Sequence[str], fetches: Sequence[str]) -> AdHoc:
        graph = self._session.graph
        inputs = [spec_of(feedable(graph, feed), feed) for feed in feeds]
        found = {fetch: fetchable(graph, fetch) for fetch in fetches}
        tensors = {fetch: element for fetch, element in found.items() if isinstance(element, tf.Tensor)}
        outputs = [spec_of(tensor, fetch) for fetch, tensor in tensors.items()]
        signature = Signature(name, tuple(inputs), tuple(outputs))
        names = tuple(tensor.name for tensor in tensors.values())
        endpoint = Endpoint(signature, tuple(graph.get_tensor_by_name(feed).name for feed in feeds), names)
        operations = tuple(fetch for fetch in fetches if fetch not in tensors)
        targets = [found[operation].name for operation in operations]
        run = runner_of(self.spec.name, self._session, endpoint, _on_caller_thread(self.spec), targets)
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


def adopt(
    spec: ModelSpec, session: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> SessionModel:
    """Tensors of a session that somebody else made, uses and will close. Raises InvalidInput."""
    if not isinstance(session, BaseSession):
        raise InvalidInput(f"model {spec.name!r}: {session!r} is no tf.compat.v1.Session")
    if not outputs:
        raise InvalidInput(f"model {spec.name!r}: a model returns at least one tensor; name some in outputs=")
    forked.guard(session, BaseSession)
    feeds = {name: feedable(session.graph, tensor) for name, tensor in inputs.items()}
    fetches = {name: fetched(session.graph, tensor) for name, tensor in outputs.items()}
    signature = Signature(
        DEFAULT_SIGNATURE,
        tuple(spec_of(tensor, name) for name, tensor in feeds.items()),
        tuple(spec_of(tensor, name) for name, tensor in fetches.items()),
    )
    names = [tuple(tensor.name for tensor in side.values()) for side in (feeds, fetches)]
    endpoint = Endpoint(signature, *names)
    run = runner_of(spec.name, session, endpoint, _on_caller_thread(spec))
    return SessionModel(spec, 1, session, {DEFAULT_SIGNATURE: (endpoint, run)}, {}, ALL_CORES, owned=False)


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
        raise _refused(spec, f"{step}: {text_of(error)}", remedy) from error


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
            endpoint = endpoint_of(session.graph, name, definitions[name])
            runs[name] = endpoint, runner_of(spec.name, session, endpoint, _on_caller_thread(spec))
        except NotServable as reason:
            left_out[name] = str(reason)
        except tf.errors.OpError as error:
            left_out[name] = f"TensorFlow cannot run it: {text_of(error)}"
    return runs, left_out
