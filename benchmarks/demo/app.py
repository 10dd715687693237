"""A whole web app: 64 pixels in, a digit out. TensorFlow is never imported here; the model runs in the broker.

broker run --model digits=PATH -- gunicorn --workers 4 benchmarks.demo.app:app
"""

import numpy as np
from flask import Flask, request

import worker_client

app = Flask(__name__)
digits = worker_client.connect().model("digits")  # attaches at the first call, so forking later is fine


@app.post("/digit")
def classify():
    pixels = np.array([request.get_json()["pixels"]], np.float32)
    probabilities = digits.predict(pixels)[0]
    return {"digit": int(probabilities.argmax()), "probabilities": probabilities.tolist()}


@app.errorhandler(worker_client.InvalidInput)
def refuse(error):
    return {"error": str(error)}, 400
