"""The ways for several workers to get answers: throughput."""
