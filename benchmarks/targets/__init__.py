"""`python -m benchmarks targets`: all of TARGETS.md in one table."""
