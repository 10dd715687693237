"""`broker doctor`: what on this machine keeps a broker or its workers from working well, and the remedy for each.

One module a subject in `checks/`; each has functions that take what was read and return a Finding, and a `check` that
reads it. `all_checks.py` runs them all. Nothing here changes anything but `leftovers.sweep`, and nothing imports
TensorFlow.
"""
