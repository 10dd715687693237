"""The app that all arms serve: 128 numbers in, ten out. Each arm's module gives it another `predict`."""

import os
from collections.abc import Callable
from time import monotonic_ns

from flask import Flask, request

Predict = Callable[[list[float]], list[float]]

WARM_UP = [0.0] * 128


class AppWorker:
    """This process: when it was forked, and how long it then took to its first answer."""

    forked_ns = 0
    first_answer_ms = 0.0
    predict: Predict


def make(predict: Predict) -> Flask:
    app = Flask("mlp")
    AppWorker.predict = staticmethod(predict)

    @app.post("/mlp")
    def answer():
        y = predict(request.get_json()["x"])
        return {"y": y, "pid": os.getpid(), "first_answer_ms": AppWorker.first_answer_ms}

    return app


def answer_first() -> None:
    """One answer of the worker's own, before it takes requests."""
    AppWorker.predict(WARM_UP)
    AppWorker.first_answer_ms = (monotonic_ns() - AppWorker.forked_ns) / 1e6
