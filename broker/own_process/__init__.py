"""What the broker changes about its own process and threads: descriptors, floats, interpreter, time slices."""
