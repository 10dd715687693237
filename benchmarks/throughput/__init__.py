"""`python -m benchmarks throughput`: many workers at once, side by side with the other ways to serve them."""
