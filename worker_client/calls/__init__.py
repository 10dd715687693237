"""A call in progress: checks inputs, fills and submits a slot, waits for the answer or leaves it to a future.

Contains what all kinds of calls share; event loops (`aio`) and greenlets (`green`) have their own folders.
"""
