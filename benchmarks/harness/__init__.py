"""How arms are run: each in a process of its own, in short windows that take turns, on a quiet machine."""
