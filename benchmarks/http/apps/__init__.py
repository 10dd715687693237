"""The web app of `python -m benchmarks http`, with each kind of model. Nothing here is imported by the benchmark."""
