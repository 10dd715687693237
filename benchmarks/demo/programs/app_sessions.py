"""`app.py` without a broker: TensorFlow, the weights and a session in every worker, made after the fork."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import numpy as np
import tensorflow as tf
from flask import Flask, request

app = Flask(__name__)
session = tf.compat.v1.Session(graph=tf.Graph())
with session.graph.as_default():
    meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], os.environ["DEMO_MODEL"])
signature = meta_graph.signature_def["serving_default"]
x = signature.inputs["x"].name
y = signature.outputs["probabilities"].name


@app.post("/digit")
def classify():
    pixels = np.array([request.get_json()["pixels"]], np.float32)
    probabilities = session.run(y, {x: pixels})[0]
    return {"digit": int(probabilities.argmax()), "probabilities": probabilities.tolist()}
