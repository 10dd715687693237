"""Access to the kernel and the interpreter, and their limits: clock, forks, descriptors, threads.

The broker uses this package as well.
"""
