"""TensorFlow, seen from one side only: its import (`runtime`), callables, graphs, composite tensors, its messages."""
