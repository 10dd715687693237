"""Imports TensorFlow without start-up messages and with threads per session. Only this module imports it."""

from __future__ import annotations

import os
from typing import Any

from broker.models.tf import keras_later
from broker.models.tf.import_logs import tensorflow_import
from broker.own_process.interpreter import low_switch_interval
from broker.own_process.temporary_files import folder_not_needed

with tensorflow_import():
    with keras_later.left_out(), low_switch_interval(), folder_not_needed():
        import tensorflow as tf
    from tensorflow.core.framework import function_pb2, tensor_pb2
    from tensorflow.core.protobuf import config_pb2
    from tensorflow.python.client import pywrap_tf_session
    from tensorflow.python.client.session import BaseSession
    from tensorflow.python.framework import c_api_util, op_def_registry
    from tensorflow.python.lib.io import _pywrap_record_io as record_io
    from tensorflow.python.saved_model import loader_impl, nested_structure_coder
    from tensorflow.python.saved_model.loader_impl import SavedModelLoader

__all__ = [
    "BaseSession",
    "SavedModelLoader",
    "c_api_util",
    "config_pb2",
    "function_pb2",
    "lite",
    "loader_impl",
    "nested_structure_coder",
    "onednn_enabled",
    "op_def_registry",
    "pywrap_tf_session",
    "record_io",
    "tensor_pb2",
    "tf",
]


def onednn_enabled() -> bool:
    """Whether oneDNN is on in this process, which its environment and its processor decided when it started."""
    try:
        from tensorflow.python.util import _pywrap_util_port

        return bool(_pywrap_util_port.IsMklEnabled())
    except (ImportError, AttributeError):  # not part of TensorFlow's public API
        return os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") not in ("0", "false")


def lite() -> tuple[Any, Any]:
    """TensorFlow's interpreter of LiteRT files, and their schema. Raises ImportError once TensorFlow has none."""
    with tensorflow_import(), keras_later.left_out():
        from tensorflow.lite.python import interpreter, schema_py_generated
    return interpreter.Interpreter, schema_py_generated
