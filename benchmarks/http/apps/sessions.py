"""TensorFlow and a session in each worker, made at its first call and so after the fork."""

import os
from functools import cache

import numpy as np

from benchmarks.arms.one_worker.session import runner
from benchmarks.http.apps.web import make


@cache
def session_run():
    return runner(os.environ["HTTP_MODEL"])


def predict(x):
    return session_run()(np.array([x], np.float32))[0].tolist()


app = make(predict)
