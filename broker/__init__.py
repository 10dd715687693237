"""The broker: one process holds the only TensorFlow session and serves forked workers through shared memory.

with broker.Broker(models={"digits": "models/digits"}):
    ...
"""

from broker.api import Broker
from broker.models.function import signature
from broker.models.spec import ModelSpec
from broker.settings import Settings

__all__ = ["Broker", "ModelSpec", "Settings", "signature"]
