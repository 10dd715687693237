"""What a user of Mosec writes: a worker with the model, and the bytes in and out."""

from __future__ import annotations

import os

import numpy as np
from mosec import Server, Worker

from benchmarks.peers.place import ServerPlace


class MosecModel(Worker):
    resp_mime_type = "application/octet-stream"

    def __init__(self) -> None:
        super().__init__()
        self._place = ServerPlace.from_json(os.environ["ONESESSION_PEER_PLACE"])
        self._run = self._place.callable()

    def deserialize(self, data: bytes) -> np.ndarray:
        return self._place.rows(data)

    def forward(self, data: np.ndarray) -> np.ndarray:
        return self._run(data)

    def serialize(self, data: np.ndarray) -> bytes:
        return data.tobytes()


if __name__ == "__main__":
    server = Server()
    server.append_worker(MosecModel, num=1)
    server.run()
