"""SavedModels and frozen graphs as models, each with its own Graph and Session; and sessions that other code owns.

Measures for speed, each of them tested: feeds and fetches are not copied; a run stays on the calling thread
(`inter_op_thread_pool = -1`) unless the model's settings differ; the call goes directly to the C layer; every session
has its own intra-op pool. broker/tuning measures how many threads to use, and which, and writes the result into the
spec; without it, `load` guesses.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from broker.models.effects import session_rules
from broker.models.effects import signature_effects as effects
from broker.models.effects.graph_walk import GraphWalk, calls_python, compiles
from broker.models.errors import ModelLoadError
from broker.models.examples import Examples, of_spec, together
from broker.models.files.locate import locate, weight_bytes
from broker.models.kinds import SourceKind, kind_of
from broker.models.model import (
    DEFAULT_SIGNATURE,
    AdHocSignature,
    Run,
    default_of,
    no_such_signature,
    why_not_uncalled,
)
from broker.models.sources import frozen, keras_file, libraries, saved_model, warmup_requests
from broker.models.sources import servable_signatures as endpoints
from broker.models.sources.session_config import config_of
from broker.models.spec import ModelSpec
from broker.models.tf import fork_guard as forked
from broker.models.tf.callables import runner_of, text_of
from broker.models.tf.graph import GraphSignature, feedable, fetchable, spec_of
from broker.models.tf.runtime import BaseSession, onednn_enabled, tf
from broker.models.warmup import Cost, measure
from worker_client.wire.errors import InvalidInput
from worker_client.wire.signature import Signature

_log = logging.getLogger("onesession.models")

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
        runs: Mapping[str, tuple[GraphSignature, Run]],
        left_out: Mapping[str, str],
        intra_op_threads: int,
        examples: Examples,
        owned: bool = True,
        compiling: Mapping[str, str] | None = None,
    ) -> None:
        """`compiling`: the graph's operations that XLA compiles, each with the evidence."""
        self.spec = spec
        self.version = version
        self.signatures: Mapping[str, Signature] = {
            name: endpoint.signature for name, (endpoint, _) in runs.items()
        }
        self.default_signature = default_of(self.signatures)
        self.left_out = left_out
        self.intra_op_threads = intra_op_threads
        self.onednn = onednn_enabled()
        self.examples = examples
        self._owned = owned
        self._session = session
        self._runs = {name: run for name, (_, run) in runs.items()}
        self._endpoints = {name: endpoint for name, (endpoint, _) in runs.items()}
        self.effects: Mapping[str, str] = effects.described(session.graph, self._endpoints)
        self._compiling = compiling or {}
        self.compiled: Mapping[str, str] = {
            name: text for name, end in self._endpoints.items() if (text := self._compiled(end.fetches))
        }

    def _compiled(self, tensors: Sequence[str]) -> str:
        if self.spec.xla:
            return "XLA compiles it (the setting xla)"
        return endpoints.mark_of(self._session.graph, self._compiling, tensors)

    def callable(self, signature_name: str) -> Run:
        run = self._runs.get(signature_name)
        if run is None:
            raise no_such_signature(signature_name, self)
        return run

    def callable_on(self, signature_name: str, *, caller_thread: bool) -> Run:
        """Another callable of this signature, on the caller's thread or in the pool, regardless of the spec."""
        return runner_of(self._session, self._endpoints[signature_name], caller_thread)

    def plain_run(self, signature_name: str) -> Run:
        """`Session.run(fetches, {feed: array})`, as an app writes it, for comparison with the callables."""
        endpoint = self._endpoints[signature_name]
        session, feeds, fetches = self._session, endpoint.feeds, list(endpoint.fetches)
        return lambda *arrays: session.run(fetches, dict(zip(feeds, arrays)))

    def ad_hoc(self, name: str, feeds: Sequence[str], fetches: Sequence[str]) -> AdHocSignature:
        graph = self._session.graph
        inputs = [spec_of(feedable(graph, feed), feed) for feed in feeds]
        found = {fetch: fetchable(graph, fetch) for fetch in fetches}
        tensors = {fetch: element for fetch, element in found.items() if isinstance(element, tf.Tensor)}
        outputs = [spec_of(tensor, fetch) for fetch, tensor in tensors.items()]
        signature = Signature(name, tuple(inputs), tuple(outputs))
        names = tuple(tensor.name for tensor in tensors.values())
        endpoint = GraphSignature(
            signature, tuple(graph.get_tensor_by_name(feed).name for feed in feeds), names
        )
        operations = tuple(fetch for fetch in fetches if fetch not in tensors)
        targets = [found[operation].name for operation in operations]
        if not self.spec.session_effects:
            session_rules.check(self.spec.name, fetches, effects.session_effects_of(graph, endpoint, targets))
        run = runner_of(self._session, endpoint, _on_caller_thread(self.spec), targets)
        stateful = effects.describe(effects.effects_of(graph, endpoint, targets))
        return AdHocSignature(signature, run, operations, stateful, self._compiled(names))

    def interrupt(self) -> bool:
        """Close the session, which cancels its runs: TensorFlow checks between operations and in each iteration of a
        loop, on any thread. (A run's own timeout does not work on the caller's thread.)"""
        if self._owned:
            self._session.close()
        return self._owned

    def close(self) -> None:
        if self._owned:
            self._session.close()

    def __repr__(self) -> str:
        return f"<SessionModel {self.spec.name} version {self.version}, {self.intra_op_threads or 'all'} threads>"


# --- loading ---


def load(spec: ModelSpec) -> SessionModel:
    """Load the model at `spec.source` (see `locate`), with its variables and tables. Raises ModelLoadError.

    Unless the spec sets the number of intra-op threads (broker/tuning fills in the measured one), the model gets one if
    it is light and TensorFlow's default if it is heavy. This is guessed from the weights, then measured if the default
    signature may be run uncalled; a wrong guess costs a second load.
    """
    path, version = locate(spec)
    libraries.load(spec)
    if kind_of(path) is SourceKind.KERAS:
        with keras_file.exported(spec, path) as directory:
            return load_from(spec, directory, version)
    return load_from(spec, path, version)


def load_from(spec: ModelSpec, path: Path, version: int = 1) -> SessionModel:
    """As `load`, from this SavedModel directory or frozen graph whatever `spec.source` is."""
    if spec.intra_op_threads is not None:
        return _open(spec, path, version, spec.intra_op_threads)
    threads = ONE_THREAD if weight_bytes(path) < LIGHT_WEIGHT_BYTES else ALL_CORES
    model = _open(spec, path, version, threads)
    if why_not_uncalled(model, model.default_signature):
        return model
    cost = _probe(model)
    wanted = ONE_THREAD if cost.light else ALL_CORES
    if wanted == threads or cost.p50_us is None:
        return model
    model.close()
    del model
    gc.collect()  # a Graph has reference cycles; without this both copies of the weights would stay in memory
    return _open(spec, path, version, wanted)


def _probe(model: SessionModel) -> Cost:
    """Measure the cost of one row, on a separate thread.

    oneDNN keeps the plan it made for a shape, with its number of threads, for each calling thread. A probe with
    the wrong setting on the thread that later serves the model would slow it for good.
    """
    costs: list[Cost] = []
    signature = model.signatures[model.default_signature]
    run = model.callable(model.default_signature)
    examples = model.examples.get(model.default_signature, ())[:1]
    larger = not model.compiled.get(model.default_signature)

    def probe() -> None:
        costs.append(measure(run, signature, seconds=PROBE_SECONDS, examples=examples, larger=larger))

    prober = threading.Thread(target=probe, name="onesession-probe")
    prober.start()
    prober.join()
    return costs[0]


def _open(spec: ModelSpec, path: Path, version: int, intra_op_threads: int) -> SessionModel:
    session = tf.compat.v1.Session(graph=tf.Graph(), config=config_of(spec, intra_op_threads))
    forked.guard(session, BaseSession)
    try:
        frozen_graph = path.is_file()
        definitions, graph_def = (frozen if frozen_graph else saved_model).fill(spec, path, session)
        walk = GraphWalk(graph_def)
        del graph_def
        left_out: dict[str, str] = {}
        if spec.outputs or frozen_graph:
            found = {DEFAULT_SIGNATURE: endpoints.of_spec(spec, session.graph)}
        else:
            found, left_out = endpoints.of_definitions(session, definitions)
        endpoints.leave_out_without_values(session, found, left_out)
        endpoints.leave_out_marked(session.graph, walk.marked(calls_python), found, left_out)
        compiling = walk.marked(compiles)
        del walk  # also frees the GraphDef, which may hold all weights
        runs = _runs(spec, session, found, left_out)
        if not (runs or left_out):
            raise saved_model.without_signatures(spec, path)
        if not runs:
            raise _nothing_to_serve(spec, left_out)
        signatures = {name: endpoint.signature for name, (endpoint, _) in runs.items()}
        examples = _examples(spec, path, signatures)
        return SessionModel(
            spec, version, session, runs, left_out, intra_op_threads, examples, compiling=compiling
        )
    except BaseException:
        session.close()
        raise


def _on_caller_thread(spec: ModelSpec) -> bool:
    return spec.caller_thread is not False


def adopt(
    spec: ModelSpec,
    session: Any,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    *,
    owned: bool = False,
) -> SessionModel:
    """Serve tensors of a session that other code uses and closes, unless it is `owned`. Raises InvalidInput."""
    if not isinstance(session, BaseSession):
        raise InvalidInput(f"model {spec.name!r}: {session!r} is not a tf.compat.v1.Session")
    if not outputs:
        raise InvalidInput(f"model {spec.name!r}: a model returns at least one tensor; name some in outputs=")
    forked.guard(session, BaseSession)
    endpoint = endpoints.of_tensors(session.graph, inputs, outputs)
    run = runner_of(session, endpoint, _on_caller_thread(spec))
    examples = of_spec(spec, {DEFAULT_SIGNATURE: endpoint.signature})
    runs = {DEFAULT_SIGNATURE: (endpoint, run)}
    compiling = GraphWalk(session.graph.as_graph_def()).marked(compiles) if _has_functions(session) else {}
    return SessionModel(spec, 1, session, runs, {}, ALL_CORES, examples, owned=owned, compiling=compiling)


def _has_functions(session: Any) -> bool:
    """Whether an operation calls a function; a graph without functions need not be copied for inspection."""
    return any(
        value.HasField("func") or value.list.func
        for operation in session.graph.get_operations()
        if operation.type != "Const"
        for value in operation.node_def.attr.values()
    )


def _examples(spec: ModelSpec, path: Path, signatures: Mapping[str, Signature]) -> Examples:
    """The inputs for warm-up, from the spec or else from the model's folder. Raises ModelLoadError."""
    if spec.warmup is False:
        return {}
    shipped, problems = warmup_requests.of_folder(path, signatures)
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        _log.warning("model %r: a warm-up request cannot be used: %s%s", spec.name, problems[0], more)
    return together([of_spec(spec, signatures), shipped])


def _refused(spec: ModelSpec, cause: str, remedy: str) -> ModelLoadError:
    return ModelLoadError.of(spec.name, spec.source, cause, remedy)


def _nothing_to_serve(spec: ModelSpec, left_out: Mapping[str, str]) -> ModelLoadError:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
    if any(endpoints.CALLS_PYTHON in reason for reason in left_out.values()):
        remedy = (
            "Write what tf.py_function or tf.numpy_function does with TensorFlow's ops and export it "
            "again, or do that "
            "part in the workers; a model in Python is served as module:function"
        )
    elif all(endpoints.NO_VALUE in reason for reason in left_out.values()):
        remedy = (
            "Export a Keras model with model.export(path), and keep every variable of a tf.Module in one "
            "of its "
            "attributes when it is saved"
        )
    else:
        remedy = "Export a signature of tensors of numbers or strings"
    return _refused(spec, f"none of its signatures can be served ({reasons})", remedy)


def _runs(
    spec: ModelSpec, session: Any, found: Mapping[str, GraphSignature], left_out: dict[str, str]
) -> dict[str, tuple[GraphSignature, Run]]:
    runs: dict[str, tuple[GraphSignature, Run]] = {}
    for name, endpoint in found.items():
        try:
            runs[name] = endpoint, runner_of(session, endpoint, _on_caller_thread(spec))
        except tf.errors.OpError as error:
            left_out[name] = f"TensorFlow cannot run it: {text_of(error)}"
    return runs
