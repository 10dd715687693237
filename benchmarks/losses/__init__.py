"""`python -m benchmarks losses`: where the broker is slower than what it is compared with, and by how much."""
