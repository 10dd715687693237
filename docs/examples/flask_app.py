"""Flask on gunicorn. The broker comes from gunicorn.conf.py beside this file, or from `onesession run`:

    gunicorn --workers 4 flask_app:app
    onesession run --model mean=example_model:mean -- gunicorn --config /dev/null --workers 4 flask_app:app

What changes in the app: `model = tf.saved_model.load(...)` and its calls become the two lines marked below. They are
right with every worker class (sync, gthread, gevent), with --preload and without.
"""

# ruff: noqa: INP001

import os
from typing import Any

import numpy as np
from flask import Flask, request

import worker_client

app = Flask(__name__)
mean = worker_client.connect().model("mean")  # asks nothing of the broker yet: it may be made before the fork


@app.get("/mean")
def get_mean() -> dict[str, Any]:
    row = np.array([request.args.getlist("x")], dtype="float32")
    return {"mean": float(mean.predict(row)[0, 0]), "pid": os.getpid()}  # from the broker's one session
