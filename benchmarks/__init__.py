"""The benchmarks of the project, and the demo. Not part of the distribution."""
