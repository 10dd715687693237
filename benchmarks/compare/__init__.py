"""`python -m benchmarks compare OLD NEW`: what moved beyond noise between two runs."""
