"""How two processes meet and wake each other: segments, the ring, semaphores, events, the files beside a socket.

The broker uses this package as well.
"""
