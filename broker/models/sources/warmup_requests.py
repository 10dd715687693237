"""Reads the warm-up requests that a SavedModel contains, in TensorFlow Serving's format.

`assets.extra/tf_serving_warmup_requests` is a TFRecord file of PredictionLog messages (`models/tfs_messages.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from broker.models.examples import Feeds, fitting
from broker.models.model import DEFAULT_SIGNATURE
from broker.models.tf.callables import text_of
from broker.models.tf.runtime import record_io, tensor_pb2, tf
from broker.models.tfs_messages import PredictionLog
from worker_client.wire.signature import Signature

FILE = Path("assets.extra", "tf_serving_warmup_requests")
MOST = 1000
"""Maximum number of requests; TensorFlow Serving refuses files with more."""

_KINDS = ("predict_log", "predict_streamed_log", "classify_log", "regress_log")


def of_folder(
    directory: Path, signatures: Mapping[str, Signature]
) -> tuple[dict[str, list[Feeds]], list[str]]:
    """The examples for each signature, and the problems of those that cannot be used."""
    path = directory / FILE
    found: dict[str, list[Feeds]] = {}
    problems: list[str] = []
    if not path.is_file():
        return found, problems
    number = 0
    try:
        for record in record_io.RecordIterator(str(path), ""):
            number += 1
            if number > MOST:
                problems.append(f"those after the first {MOST}")
                break
            try:
                name, feeds = _request(record, signatures)
                found.setdefault(name, []).append(feeds)
            except (ValueError, TypeError, DecodeError) as error:
                problems.append(f"number {number}: {error}")
    except Exception as error:
        problems.append(f"{path} after record {number}: {text_of(error)}")
    return found, problems


def _request(record: bytes, signatures: Mapping[str, Signature]) -> tuple[str, Feeds]:
    """The signature's name and what to feed it. Raises ValueError if it is not a valid request."""
    request = _logged(record)
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    if name not in signatures:
        raise ValueError(f"there is no signature {name!r}")
    signature = signatures[name]
    if hasattr(request, "inputs"):
        arrays = _tensors(request.inputs)
    else:
        arrays = _tf_examples(request.input, signature)
    feeds = fitting(signature, arrays)
    if not isinstance(feeds, str):
        return name, feeds
    raise ValueError(f"signature {name!r}: {feeds}")


def _logged(record: bytes) -> Any:
    """The logged request; for a stream, the last one."""
    try:
        log = PredictionLog.FromString(record)
    except DecodeError:
        raise ValueError("it is not a PredictionLog") from None
    kind = next((kind for kind in _KINDS if log.HasField(kind)), None)
    if kind is None:
        raise ValueError("it is not a predict, classify or regress request")
    if kind != "predict_streamed_log":
        return getattr(log, kind).request
    if not log.predict_streamed_log.request:
        raise ValueError("it is a stream without requests")
    return log.predict_streamed_log.request[-1]


def _tensors(entries: Iterable[Any]) -> dict[str, np.ndarray]:
    return {entry.key: tf.make_ndarray(tensor_pb2.TensorProto.FromString(entry.value)) for entry in entries}


def _tf_examples(given: Any, signature: Signature) -> dict[str, np.ndarray]:
    """Serialised tf.Examples for the one input of the signature. One message appended to another is merged into it."""
    if len(signature.inputs) != 1:
        raise ValueError(
            f"signature {signature.name!r} takes {len(signature.inputs)} inputs, not tf.Examples"
        )
    shared = given.example_list_with_context
    examples = shared.examples if given.HasField("example_list_with_context") else given.example_list.examples
    array = np.empty(len(examples), object)
    array[:] = [shared.context + example for example in examples]
    return {signature.inputs[0].name: array}
