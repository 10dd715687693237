"""Makes the ConfigProto of a model's session from the broker's needs, the spec, and the user's `session_config`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format, text_format

from broker.models.errors import ModelLoadError
from broker.models.spec import ModelSpec
from broker.models.tf.devices import has_gpu
from broker.models.tf.runtime import config_pb2

ON = config_pb2.OptimizerOptions.ON_1


def config_of(spec: ModelSpec, intra_op_threads: int) -> Any:
    """The session's configuration. Raises ModelLoadError if `spec.session_config` is not a ConfigProto."""
    config = config_pb2.ConfigProto(
        intra_op_parallelism_threads=intra_op_threads,
        inter_op_parallelism_threads=spec.inter_op_threads or 0,
        allow_soft_placement=True,
        # A separate pool for runs in the inter-op pool: oneDNN keeps a plan for each thread, with its number of
        # intra-op threads, so a pool that sessions with different numbers share would slow one of them.
        use_per_session_threads=spec.caller_thread is False,
    )
    config.gpu_options.allow_growth = spec.gpu_memory_growth
    config.gpu_options.per_process_gpu_memory_fraction = spec.gpu_memory_fraction or 0
    if spec.xla:
        config.graph_options.optimizer_options.global_jit_level = ON
    if not has_gpu():
        config.device_count["GPU"] = 0  # otherwise TensorFlow's GPU build logs that it finds no driver
    config.MergeFrom(_given(spec))
    return config


def _given(spec: ModelSpec) -> Any:
    given, config = spec.session_config, config_pb2.ConfigProto()
    try:
        if isinstance(given, Mapping):
            json_format.ParseDict(dict(given), config)
        elif given is not None:
            text_format.Parse(given, config)
    except (json_format.ParseError, text_format.ParseError) as error:
        raise ModelLoadError.of(
            spec.name,
            spec.source,
            f"its session_config is not a ConfigProto: {error}",
            "Write fields of TensorFlow's ConfigProto, such as {gpu_options = "
            "{per_process_gpu_memory_fraction = 0.5}}",
        ) from None
    return config
