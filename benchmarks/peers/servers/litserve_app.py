"""What a user of LitServe writes: the API with the model, and the bytes in and out."""

import os
from typing import Annotated

import litserve
import numpy as np
from fastapi import Body, Response

from benchmarks.peers.place import HOST, ServerPlace

# LitServe looks at the annotations of these methods, so they must not be text (no `annotations` from the future).
Raw = Annotated[bytes, Body(media_type="application/octet-stream")]


class LitServeModel(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self._place = ServerPlace.from_json(os.environ["ONESESSION_PEER_PLACE"])
        self._run = self._place.callable()

    def decode_request(self, request: Raw) -> np.ndarray:
        return self._place.rows(request)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self._run(x)

    def encode_response(self, output: np.ndarray) -> Response:
        return Response(output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    place = ServerPlace.from_json(os.environ["ONESESSION_PEER_PLACE"])
    server = litserve.LitServer(LitServeModel(), accelerator="cpu", workers_per_device=1, timeout=30)
    server.run(host=HOST, port=place.ports[0], generate_client_file=False, log_level="warning")
