"""Finds what a run of a signature does besides computing, by the ops that it reaches, and what sessions may run."""
