"""The ways to get an answer that are compared; each function is a `harness.timed.Factory`."""
