"""SavedModels: the MetaGraph with the spec's tags, its variables, its tables; TF1 and TF2 exports, TF1 Hub modules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from broker.models.errors import ModelLoadError
from broker.models.files.locate import missing_variables
from broker.models.kinds import is_hub_module
from broker.models.sources import functions
from broker.models.sources.tables import initialise_tables
from broker.models.spec import DEFAULT_TAGS, ModelSpec
from broker.models.tf.callables import text_of
from broker.models.tf.composite import definitions
from broker.models.tf.runtime import SavedModelLoader, loader_impl, tf


def fill(spec: ModelSpec, directory: Path, session: Any) -> tuple[Mapping[str, Any], Any]:
    """Restore the SavedModel into the session, and return its signatures by name and its GraphDef. Raises
    ModelLoadError."""
    loader, meta_graph = _read(spec, directory)
    _restore(spec, directory, loader, meta_graph, session)
    return definitions(meta_graph), meta_graph.graph_def


def without_signatures(spec: ModelSpec, directory: Path) -> ModelLoadError:
    """The error for a SavedModel without signatures, which lists its functions."""
    there = functions.described(_read(spec, directory)[1])
    if not there:
        cause = "it has no signatures, and no traced functions that could become one"
        return _refused(
            spec, cause, "Export it with some: tf.saved_model.save(module, path, signatures=module.serve)"
        )
    name = there[0].partition("(")[0]
    return _refused(
        spec,
        f"it has no signatures; its functions are {'; '.join(there)}",
        "Export it again with the one to serve: "
        f"tf.saved_model.save(module, path, signatures=module.{name}), where {name} has an input_signature "
        "or is "
        "given as get_concrete_function(...)",
    )


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
    wanted = [set(spec.tags)]
    if spec.tags == DEFAULT_TAGS and is_hub_module(directory):
        wanted.append(set())  # the tags of a TF1 Hub module for inference
    for tags in wanted:
        for meta_graph in meta_graphs:
            if set(meta_graph.meta_info_def.tags) == tags:
                _check_variables(spec, directory, meta_graph)
                return loader, meta_graph
    there = " or ".join(repr(tuple(sorted(m.meta_info_def.tags))) for m in meta_graphs)
    raise _refused(
        spec,
        f"it has no graph with the tags {spec.tags!r}, only with {there}",
        "Set the model's tags to these",
    )


def _check_variables(spec: ModelSpec, directory: Path, meta_graph: Any) -> None:
    if meta_graph.HasField("saver_def") and (index := missing_variables(directory)):
        raise _refused(
            spec, f"its variables are missing: there is no {index}", "Copy the whole directory again"
        )


def _restore(spec: ModelSpec, directory: Path, loader: Any, meta_graph: Any, session: Any) -> None:
    """Import the graph, read the variables, fill the tables: the steps of TensorFlow's loader, with separate errors."""
    tags = list(meta_graph.meta_info_def.tags)
    step, remedy = "", ""
    try:
        step, remedy = "its graph cannot be imported", _version_remedy(meta_graph)
        saver, _ = loader.load_graph(session.graph, tags)
        step, remedy = "its variables cannot be restored", f"Copy or export {directory} again"
        loader.restore_variables(session, saver)
        step, remedy = "its initialisation failed", f"Check the files in {directory / 'assets'}"
        loader.run_init_ops(session, tags)
        if is_hub_module(directory):  # the caller of hub.Module initialises its tables
            initialise_tables(session, loader_impl.get_asset_tensors(str(directory), meta_graph))
    except Exception as error:
        missing = _missing_op(error)
        if missing is not None:
            raise _refused(
                spec,
                f"its graph needs the op {missing!r}, which this TensorFlow ({tf.__version__}) does not have",
                "Load the library that has it: --load-op-library PATH (the setting op_libraries), or the "
                "setting "
                "imports, such as imports = ['tensorflow_text']; if it is one of TensorFlow's own, "
                + remedy_for_versions(meta_graph),
            ) from error
        raise _refused(spec, f"{step}: {text_of(error)}", remedy) from error


def _version_remedy(meta_graph: Any) -> str:
    sentence = remedy_for_versions(meta_graph)
    return sentence[0].upper() + sentence[1:]


def remedy_for_versions(meta_graph: Any) -> str:
    exported_by = meta_graph.meta_info_def.tensorflow_version
    if not exported_by or exported_by == tf.__version__:
        return "serve it with the TensorFlow version that exported it"
    return f"serve it with the TensorFlow that exported it, {exported_by} (this is {tf.__version__})"


def _missing_op(error: Exception) -> str | None:
    """The op that TensorFlow reports as not registered."""
    text = text_of(error)
    for before, after in (("Op type not registered '", "'"), ("No Op registered for ", " ")):
        if before in text:
            return text.partition(before)[2].partition(after)[0]
    return None


def _refused(spec: ModelSpec, cause: str, remedy: str) -> ModelLoadError:
    return ModelLoadError.of(spec.name, spec.source, cause, remedy)
