"""What a process holds of the broker it is attached to: the control connection, slots in shared memory, the list of
models.

Also decides what happens to calls when the broker goes away.
"""
