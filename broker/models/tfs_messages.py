"""Declares the messages of TensorFlow Serving that are used here: tensorflow-serving-api is not a dependency.

Names and numbers are those of tensorflow_serving/apis/*.proto. A tensor (tensorflow.TensorProto) or example
(tensorflow.Example) is declared as bytes, which is the same on the wire: code that needs it parses it, and data that is
only passed on stays unchanged. A map is a list of its entries, of which the last one counts. The descriptors are in a
separate pool, because a model's own code may import the real ones.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message_factory import GetMessages

_PACKAGE = "tensorflow.serving"
_DECLARED = """
ModelSpec: string signature_name = 3
TensorEntry: string key = 1, bytes value = 2
PredictRequest: ModelSpec model_spec = 1, repeated TensorEntry inputs = 2
ExampleList: repeated bytes examples = 1
ExampleListWithContext: repeated bytes examples = 1, bytes context = 2
Input: ExampleList example_list = 1, ExampleListWithContext example_list_with_context = 2
ClassificationRequest: ModelSpec model_spec = 1, Input input = 2
RegressionRequest: ModelSpec model_spec = 1, Input input = 2
ClassifyLog: ClassificationRequest request = 1
RegressLog: RegressionRequest request = 1
PredictLog: PredictRequest request = 1
PredictStreamedLog: repeated PredictRequest request = 1
PredictionLog: ClassifyLog classify_log = 2, RegressLog regress_log = 3, PredictLog predict_log = 6, \
PredictStreamedLog predict_streamed_log = 7
"""
_SCALARS = {"string": FieldDescriptorProto.TYPE_STRING, "bytes": FieldDescriptorProto.TYPE_BYTES}


def _messages() -> dict[str, Any]:
    file = FileDescriptorProto(name="onesession/tensorflow_serving.proto", package=_PACKAGE, syntax="proto3")
    for line in _DECLARED.strip().splitlines():
        name, _, fields = line.partition(": ")
        message = file.message_type.add(name=name)
        for field in fields.split(", "):
            *repeated, kind, called, _, number = field.split()
            label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
            made = message.field.add(name=called, number=int(number), label=label)
            if kind in _SCALARS:
                made.type = _SCALARS[kind]
            else:
                made.type, made.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    return dict(GetMessages([file]))


PredictionLog = _messages()[f"{_PACKAGE}.PredictionLog"]
