"""gunicorn's dirty arbiters: the session is in processes of gunicorn's own, which the workers ask over a socket.

The tensors travel as bytes, the quickest that its protocol has for them.
"""

import os

import numpy as np
from gunicorn.dirty import DirtyApp, get_dirty_client

from benchmarks.http.apps.web import make


class Mlp(DirtyApp):
    def init(self):
        from benchmarks.arms.one_worker.session import runner

        self.run = runner(os.environ["HTTP_MODEL"])

    def predict(self, x):
        return self.run(np.frombuffer(x, np.float32).reshape(-1, 128)).tobytes()


def predict(x):
    y = get_dirty_client().execute(
        "benchmarks.http.apps.dirty:Mlp", "predict", np.array(x, np.float32).tobytes()
    )
    return np.frombuffer(y, np.float32).tolist()


app = make(predict)
