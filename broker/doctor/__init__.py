"""`onesession doctor`: finds what keeps a broker or its workers on this machine from working well, and the remedies.

`checks/` has one module per subject, each with functions that turn measured values into a Finding, and a `check` that
measures them. `all_checks.py` runs all checks. Only `leftovers.sweep` changes anything, and nothing imports TensorFlow.
"""
