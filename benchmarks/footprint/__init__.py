"""`python -m benchmarks memory`: what a server with a model takes, and how soon a new worker answers."""
