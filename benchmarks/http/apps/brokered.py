"""One session for all workers, in the broker."""

import numpy as np

import worker_client
from benchmarks.http.apps.web import make

mlp = worker_client.connect().model("mlp")


def predict(x):
    return mlp.predict(np.array([x], np.float32))[0].tolist()


app = make(predict)
