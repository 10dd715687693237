"""`python -m benchmarks profile`: what is called, and how long each stage takes, between client and session."""
