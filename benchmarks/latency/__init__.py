"""`python -m benchmarks latency`: one worker's calls, side by side with the other ways to make them."""
