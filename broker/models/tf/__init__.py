"""The access to TensorFlow: its import (`runtime`), callables, graphs, composite tensors, error messages."""
