"""Where a model lies on disk, and what is wrong with what lies there. Knows no TensorFlow."""
