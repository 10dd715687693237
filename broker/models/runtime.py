"""TensorFlow, imported quietly and with threads per session. The only module that imports it."""

from __future__ import annotations

import os
import sys

from broker.models.quiet import import_chatter_dropped

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

__all__ = ["BaseSession", "SavedModelLoader", "config_pb2", "onednn_enabled", "pywrap_tf_session", "tf"]


def onednn_enabled() -> bool:
    """Whether oneDNN is on in this process, which its environment and its processor decided when it started."""
    try:
        from tensorflow.python.util import _pywrap_util_port

        return bool(_pywrap_util_port.IsMklEnabled())
    except (ImportError, AttributeError):  # no part of TensorFlow's public face
        return os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") not in ("0", "false")
