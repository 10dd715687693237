"""Trains a digits classifier, exports it as a SavedModel, and notes what the model itself says of the test images.

Writes DIRECTORY/digits (the SavedModel; `serving_default`: `x` float32 [?, 64], pixels of 0 to 16 -> `probabilities`
float32 [?, 10]) and DIRECTORY/test.npz (`images` [n, 64], `labels` [n], `probabilities` [n, 10]). Progress goes to
stdout, one JSON object a line.
"""

import argparse
import json
import os
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

EPOCHS = 30
TEST_SHARE = 1 / 3


def main() -> None:
    options = _options()
    tf.keras.utils.set_random_seed(options.seed)
    data = load_digits()
    images, test_images, labels, test_labels = train_test_split(
        data.data.astype(np.float32),
        data.target,
        test_size=TEST_SHARE,
        random_state=options.seed,
        stratify=data.target,
    )
    model = _classifier()
    model.fit(images, labels, batch_size=64, epochs=EPOCHS, verbose=0, callbacks=[_progress()])
    path = options.directory / "digits"
    _export(model, path)
    probabilities = _answers(path, test_images)
    np.savez(
        options.directory / "test.npz", images=test_images, labels=test_labels, probabilities=probabilities
    )
    accuracy = float((probabilities.argmax(axis=1) == test_labels).mean())
    _tell(trained_on=len(labels), tested_on=len(test_labels), accuracy=accuracy)


def _classifier():
    keras = tf.keras
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Rescaling(1 / 16),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _progress():
    return tf.keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: _tell(epoch=epoch + 1, of=EPOCHS, accuracy=logs["accuracy"])
    )


def _export(model, path: Path) -> None:
    """Keras' own way. `tf.saved_model.save(model, ...)` writes files from which no session finds the variables."""
    signature = [tf.TensorSpec([None, 64], tf.float32, name="x")]
    archive = tf.keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", lambda x: {"probabilities": model(x, training=False)}, signature)
    archive.write_out(str(path), verbose=False)


def _answers(path: Path, images: np.ndarray) -> np.ndarray:
    """TensorFlow's answers with the SavedModel on disk."""
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    return serve(x=tf.constant(images))["probabilities"].numpy()


def _tell(**message) -> None:
    print(json.dumps(message), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
