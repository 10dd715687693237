"""A parent that starts the broker again whenever it ends, and judges what ended it. Imports no TensorFlow."""
