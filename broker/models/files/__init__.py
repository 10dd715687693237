"""Finds models on disk, and reports damaged and foreign files. Does not use TensorFlow."""
