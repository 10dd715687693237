"""What a process has of the broker it is attached to: the control connection, slots in shared memory, what is served.

And what becomes of calls when the broker goes away.
"""
