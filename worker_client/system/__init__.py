"""What the kernel and the interpreter give to this process, and where they refuse: clock, forks, descriptors, threads.

The broker stands on it as well.
"""
