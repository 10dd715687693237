"""Access to the kernel, and its limits: clock, descriptors, locked files, shared pages, processors.

The broker uses this package as well.
"""
