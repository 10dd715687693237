"""Files on disk opened as models: each kind is read in one module, and `session` runs them all. Needs TensorFlow."""
