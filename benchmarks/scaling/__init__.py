"""`python -m benchmarks scaling`: the broker's throughput from what its stages cost, beside a measured sweep."""
