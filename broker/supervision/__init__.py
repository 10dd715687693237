"""The parent that starts the broker again whenever it ends, and decides what ended it. Imports no TensorFlow."""
