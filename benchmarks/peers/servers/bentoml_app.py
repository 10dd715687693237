"""What a user of BentoML writes: the service with the model."""

import os
from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType

from benchmarks.peers.place import ServerPlace

# BentoML looks at the annotations of these methods, so they must not be text (no `annotations` from the future).
Tensor = Annotated[np.ndarray, DType("float32")]


@bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": 1000})
class BentoModel:
    def __init__(self) -> None:
        self._run = ServerPlace.from_json(os.environ["ONESESSION_PEER_PLACE"]).callable()

    @bentoml.api
    def predict(self, x: Tensor) -> Tensor:
        return self._run(x)
