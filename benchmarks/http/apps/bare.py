"""No model, and no numpy: what the server and the app cost by themselves."""

from benchmarks.http.apps.web import make


def predict(x):
    return x[:10]


app = make(predict)
