"""TensorFlow's error messages, as its versions write them, without their noise."""

from __future__ import annotations

import pytest

from broker.models.tf.error_text import clean

PLAIN = "indices[0] = 7 is not in [0, 3)"
TWO_ROOTS = """2 root error(s) found.
  (0) INVALID_ARGUMENT: first
\t [[{{node A}}]]
\t [[B/_3]]
  (1) INVALID_ARGUMENT: second
\t [[{{node C}}]]
0 successful operations.
0 derived errors ignored."""
WITH_STACK = """Graph execution error:

Detected at node 'dense/MatMul' defined at (most recent call last):
    File "app.py", line 3, in <module>
      model.predict(x)
    File "keras/layers.py", line 9, in call
      return matmul(x)
Node: 'dense/MatMul'
Matrix size-incompatible: In[0]: [1,3], In[1]: [4,2]
\t [[{{node dense/MatMul}}]]"""


@pytest.mark.parametrize(
    ("message", "cleaned"),
    [
        (PLAIN, PLAIN),
        (f"{PLAIN}\n\t [[{{{{node GatherV2}}}}]]", f"{PLAIN} (node GatherV2)"),
        (
            f"Graph execution error:\n\n{PLAIN}\n\t [[{{{{function_node __inference_7}}}}{{{{node a/GatherV2}}}}]]",
            f"{PLAIN} (node a/GatherV2)",
        ),
        (
            TWO_ROOTS,
            "first (node A)",
        ),
        (
            WITH_STACK,
            "Node: 'dense/MatMul' Matrix size-incompatible: In[0]: [1,3], In[1]: [4,2] (node dense/MatMul)",
        ),
        ("assertion failed: [x >= 0] [Condition] \n[1 -1]", "assertion failed: [x >= 0] [Condition] [1 -1]"),
        ("Original stack trace for 'a':", "Original stack trace for 'a':"),
        ("", ""),
    ],
)
def test_what_is_left_is_what_went_wrong_and_where(message, cleaned):
    """The message's own lines become one, with the first node named at the end; never nothing at all."""
    assert clean(message) == cleaned
