"""The errors that a caller gets when the model itself fails."""

from __future__ import annotations

import numpy as np
import pytest

from worker_client.wire.errors import ModelFailed


def test_tensorflows_message_reaches_the_caller(load):
    """ModelFailed has TensorFlow's error, and tells nothing of its stack."""
    run = load("failing").callable("serving_default")
    with pytest.raises(ModelFailed) as caught:
        run(np.array([0, 7]))
    assert str(caught.value) == "InvalidArgumentError: indices[1] = 7 is not in [0, 3) (node GatherV2)"
    assert caught.value.__suppress_context__


def test_an_assertion_of_the_model_is_told(load):
    """The text of tf.debugging.assert_* is in the message."""
    with pytest.raises(
        ModelFailed, match=r"InvalidArgumentError: assertion failed: \[x must not be negative"
    ):
        load("failing").callable("positive")(np.array([1, -1], np.float32))


def test_a_failed_run_leaves_the_model_as_it_was(load):
    """The next good request is answered."""
    run = load("failing").callable("serving_default")
    for _ in range(3):
        with pytest.raises(ModelFailed):
            run(np.array([9]))
        assert run(np.array([2, 0]))[0].tolist() == [30.0, 10.0]


def test_a_wrong_dtype_is_refused_by_tensorflow_too(load):
    """A request that skips the earlier checks gets an error and not an answer."""
    with pytest.raises(ModelFailed, match=r"Type mismatch: actual double vs\. expect float"):
        load("mlp").callable("serving_default")(np.ones((1, 128)))


def test_a_closed_model_says_so(load):
    """After close() a run fails cleanly, and closing again does nothing."""
    model = load("mlp")
    run = model.callable("serving_default")
    model.close()
    model.close()
    with pytest.raises(ModelFailed, match="^CancelledError: Session has been closed"):
        run(np.ones((1, 128), np.float32))
