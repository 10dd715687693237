"""The broker: one process holds the only TensorFlow session and serves forked workers through shared memory.

with broker.Broker(models={"digits": "models/digits"}):
    ...
"""

from broker.api import Broker
from broker.config.settings import Settings
from broker.models.python.function import signature
from broker.models.spec import ModelSpec
from worker_client.wire.version import __version__

__all__ = ["Broker", "ModelSpec", "Settings", "__version__", "signature"]
