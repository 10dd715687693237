"""A process's attachment to its broker: the control connection, slots in shared memory, the list of models.

This package also decides what happens to calls when the broker goes away.
"""
