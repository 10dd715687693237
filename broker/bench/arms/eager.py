"""A SavedModel as an app of TensorFlow 2 calls it, to be compared with: loaded eagerly, its signature as a function."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from broker.models.errors import ModelLoadError
from broker.models.files.locate import locate
from broker.models.model import Run
from broker.models.spec import ModelSpec
from broker.models.tf.runtime import tf
from worker_client.wire.signature import Signature


def signature_run(spec: ModelSpec, signature: Signature) -> Run:
    """`tf.saved_model.load(path).signatures[name]` as a Run, with TensorFlow's defaults. Raises ModelLoadError."""
    path, _ = locate(spec)
    if not path.is_dir():
        raise ModelLoadError.of(
            spec.name,
            spec.source,
            "it is not a SavedModel, so it has no TensorFlow 2 signatures",
            "Call it another way, or export it as a SavedModel",
        )
    loaded = tf.saved_model.load(str(path), tags=list(spec.tags))
    function = loaded.signatures[signature.name]
    names = [tensor.name for tensor in signature.inputs]
    outputs = [tensor.name for tensor in signature.outputs]

    def run(*arrays: np.ndarray) -> Sequence[np.ndarray]:
        made = function(**{name: tf.constant(array) for name, array in zip(names, arrays)})
        return [made[name].numpy() for name in outputs]

    run.owner = loaded  # type: ignore[attr-defined] # its variables live as long as it does
    return run
