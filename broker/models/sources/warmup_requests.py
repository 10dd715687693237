"""Requests that a SavedModel ships to be warmed up with, as TensorFlow Serving reads them.

`assets.extra/tf_serving_warmup_requests` is a TFRecord file of PredictionLog messages. Their definitions are no part of
TensorFlow (tensorflow_serving/apis/{prediction_log,predict,classification,input,model}.proto); what is needed of them
is read field by field here:

    PredictionLog   2 classify_log  3 regress_log  6 predict_log  7 predict_streamed_log    each: 1 request
    PredictRequest  1 model_spec  2 inputs: map of 1 name to 2 TensorProto
    ClassificationRequest, RegressionRequest   1 model_spec  2 input: 1 or 2 a list of 1 tf.Example (2 with 2 context)
    ModelSpec       3 signature_name
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from broker.models.examples import Feeds, fitting
from broker.models.model import DEFAULT_SIGNATURE
from broker.models.tf.callables import text_of
from broker.models.tf.runtime import record_io, tensor_pb2, tf
from worker_client.wire.signature import Signature

FILE = Path("assets.extra", "tf_serving_warmup_requests")
MOST = 1000
"""TensorFlow Serving refuses files with more."""

_PREDICTS = (6, 7)
_TAKES_EXAMPLES = (2, 3)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def of_folder(
    directory: Path, signatures: Mapping[str, Signature]
) -> tuple[dict[str, list[Feeds]], list[str]]:
    """The examples for each signature, and what cannot be used of them, with the reason."""
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
    """The signature's name and what to feed it. Raises ValueError for what is no request to it."""
    log = dict(_fields(record))
    kind = next((number for number in (*_PREDICTS, *_TAKES_EXAMPLES) if number in log), None)
    if kind is None:
        raise ValueError("it is no predict, classify or regress request")
    request = _first(log[kind], 1)
    name = bytes(_first(_first(request, 1), 3)).decode() or DEFAULT_SIGNATURE
    if name not in signatures:
        raise ValueError(f"there is no signature {name!r}")
    signature = signatures[name]
    arrays = _tensors(request) if kind in _PREDICTS else _tf_examples(request, signature)
    feeds = fitting(signature, arrays)
    if not isinstance(feeds, str):
        return name, feeds
    raise ValueError(f"signature {name!r}: {feeds}")


def _tensors(request: bytes) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for number, entry in _fields(request):
        if number == 2:
            tensor = tensor_pb2.TensorProto.FromString(_first(entry, 2))
            found[_first(entry, 1).decode()] = tf.make_ndarray(tensor)
    return found


def _tf_examples(request: bytes, signature: Signature) -> dict[str, np.ndarray]:
    """Serialised tf.Examples for the one input of the signature. One message appended to another is merged into it."""
    given = _first(request, 2)
    with_context = dict(_fields(given)).get(2)
    examples = [part for number, part in _fields(with_context or _first(given, 1)) if number == 1]
    context = _first(with_context, 2) if with_context else b""
    if len(signature.inputs) != 1:
        raise ValueError(
            f"signature {signature.name!r} takes {len(signature.inputs)} inputs, not tf.Examples"
        )
    array = np.empty(len(examples), object)
    array[:] = [context + example for example in examples]
    return {signature.inputs[0].name: array}


# --- protocol buffers ---


def _first(message: bytes, wanted: int) -> bytes:
    """The last of the fields of this number, as protocol buffers have it for one that is not repeated; else empty."""
    return dict(_fields(message)).get(wanted, b"")


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The numbers and contents of all fields of bytes. Raises ValueError for what is no message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        elif kind == _BYTES:
            size, at = _varint(message, at)
            yield key >> 3, message[at : at + size]
            at += size
        else:
            raise ValueError("it is no PredictionLog")
    if at != len(message):
        raise ValueError("it is no PredictionLog")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("it is no PredictionLog")
